/**
 * OpenStack as a cloud: servers of Nova, found again by their tags.
 *
 * A server is deleted, and its deletion waited for, by its id or, where an interrupted request left none, by its tag. All that
 * begin or end are watched with one list between them.
 */
import { createHash } from "node:crypto";
import { FleetingdError, messageOf } from "../../errors.ts";
import type { TlsOptions } from "../../host/api-client.ts";
import { sleep } from "../../host/wait.ts";
import type {
  Cloud,
  ListedMachine,
  MachineAddress,
  MachineRequest,
  Owner,
  StoredMachine,
} from "../remote/cloud.ts";
import { readNamedFile } from "../remote/named-file.ts";
import { refuseMissing } from "../remote/needed.ts";
import { SharedPoll } from "../remote/shared-poll.ts";
import type { CloudAccess } from "./access.ts";
import { addressOf } from "./addresses.ts";
import { findCloud } from "./clouds-yaml.ts";
import type { OpenStackConfig } from "./config.ts";
import { consoleEnd, hasBooted } from "./console.ts";
import { neededOf } from "./needed.ts";
import { type Image, Nova, type Server } from "./nova.ts";
import { createRequest, imageOf, instanceOf, ownerTags, tagsOf } from "./server-spec.ts";
import { Session } from "./session.ts";

const POLL_MS = 2_000;
const CONSOLE_POLL_MS = 3_000;
/** In how many lists in a row a server that was just asked for may be missing. */
const UNLISTED_POLLS = 5;
/** How long an image that was looked up by its name stays known. */
const IMAGE_AGE_MS = 60_000;
const IGNITION_USER = "core";

/** Statuses in which a server will run no job any more. */
const ENDED = new Set(["ERROR", "SHUTOFF", "SUSPENDED", "SHELVED", "SHELVED_OFFLOADED"]);
/** Where a cloud keeps deleted servers for a while. What is just DELETED is gone from lists only when Nova is done with it. */
const SOFT_DELETED = "SOFT_DELETED";
const DELETED = new Set(["DELETED", SOFT_DELETED]);

export interface OpenStackOptions {
  config: OpenStackConfig;
  environment: Readonly<Record<string, string | undefined>>;
}

export class OpenStackCloud implements Cloud {
  readonly fingerprint: string;
  readonly #options: OpenStackOptions;
  readonly #polls = new Map<string, SharedPoll<Server[]>>();
  #description: string;
  #nova: Promise<{ nova: Nova; session: Session }> | undefined;
  #image: { found: Image; at: number } | undefined;

  constructor(options: OpenStackOptions) {
    this.#options = options;
    const { config } = options;
    this.#description = `the OpenStack cloud ${config.cloud ?? "of the environment"}`;
    const { serverSpec, useIgnition } = config;
    this.fingerprint = createHash("sha256")
      .update(JSON.stringify({ serverSpec, useIgnition }))
      .digest("hex")
      .slice(0, 16);
  }

  get description(): string {
    return this.#description;
  }

  async create({ id, owner, authorizedKey, save, phase, signal }: MachineRequest): Promise<MachineAddress> {
    const { config } = this.#options;
    const nova = await this.#connect();
    const image = await this.#findImage(nova, signal);
    const username = config.username ?? image?.adminUser;
    const { useIgnition, serverSpec } = config;
    const imageId = serverSpec.image_name === undefined ? undefined : image?.id;
    const wanted = { id, owner, authorizedKey, useIgnition, imageId, username: username ?? IGNITION_USER };
    const body = createRequest(serverSpec, wanted);
    // From here on a server may carry the instance's tag, though its id is not known yet.
    await save({});
    signal.throwIfAborted();
    const serverId = await nova.createServer(body);
    await save({ serverId });
    phase("build");
    const server = await this.#untilActive(owner, serverId, signal);
    if (config.bootTimeMs !== undefined) {
      phase("boot");
      await this.#untilBooted(nova, server, config.bootTimeMs, signal);
    }
    return {
      address: addressOf(server, config.addressNetwork),
      ...(username === undefined && !useIgnition ? {} : { username: username ?? IGNITION_USER }),
      ...(image?.os === undefined ? {} : { os: image.os }),
      ...(image?.arch === undefined ? {} : { arch: image.arch }),
    };
  }

  async remove({ id, owner, data }: StoredMachine, signal: AbortSignal): Promise<void> {
    const nova = await this.#connect();
    const servers = await this.#serversOf(nova, { id, owner }, data["serverId"], signal);
    if (servers.length === 0) return;
    for (const serverId of servers) await nova.deleteServer(serverId, signal);
    const failed = new Set<string>();
    await this.#poll(owner, nova).until((listed) => {
      const left = listed.filter(({ id, status }) => servers.includes(id) && status !== SOFT_DELETED);
      for (const server of left) if (server.status === "ERROR") failed.add(server.id);
      return left.length === 0 ? true : undefined;
    }, signal);
    // Where a server could not be built, Nova may have lost track of its ports.
    for (const serverId of failed) await nova.removePorts(serverId, this.#ownPorts(), signal);
  }

  async list(owner: Owner, signal: AbortSignal): Promise<readonly ListedMachine[]> {
    const nova = await this.#connect();
    const servers = await nova.listServers(ownerTags(owner), signal);
    return servers.flatMap((server): ListedMachine[] => {
      const id = instanceOf(server.tags);
      if (id === undefined || DELETED.has(server.status)) return [];
      if (server.status === "BUILD") return [{ id, state: "starting" }];
      if (!ENDED.has(server.status)) return [{ id, state: "running" }];
      const reason = `its status is ${server.status}${server.fault === undefined ? "" : `: ${server.fault.message}`}`;
      return [{ id, state: "gone", reason }];
    });
  }

  async examine(signal: AbortSignal): Promise<void> {
    const nova = await this.#connect();
    await this.#findImage(nova, signal);
    const needed = neededOf(this.#options.config.serverSpec);
    await refuseMissing(needed, ({ service, path }) => nova.has(service, path, signal));
  }

  async close(): Promise<void> {
    const nova = this.#nova;
    this.#nova = undefined;
    if (nova === undefined) return;
    try {
      (await nova).session.close();
    } catch {
      // It was never there.
      return;
    }
  }

  #connect(): Promise<Nova> {
    // Files are read again after a failure: that may have been what was wrong with them.
    this.#nova ??= this.#logIn().catch((error: unknown) => {
      this.#nova = undefined;
      throw error;
    });
    return this.#nova.then(({ nova }) => nova);
  }

  async #logIn(): Promise<{ nova: Nova; session: Session }> {
    const { config, environment } = this.#options;
    const access = await findCloud(config, environment);
    this.#description = access.description;
    const { requestTimeoutMs, novaMicroversion } = config;
    const session = new Session({ access, tls: await tlsOf(access), requestTimeoutMs });
    return { session, nova: new Nova(session, novaMicroversion) };
  }

  async #findImage(nova: Nova, signal: AbortSignal): Promise<Image | undefined> {
    const { serverSpec } = this.#options.config;
    const id = imageOf(serverSpec);
    if (serverSpec.image_name === undefined && id === undefined) return undefined;
    if (this.#image !== undefined && performance.now() - this.#image.at < IMAGE_AGE_MS)
      return this.#image.found;
    const wanted = serverSpec.image_name === undefined ? { id: id ?? "" } : { name: serverSpec.image_name };
    const found = await nova.image(wanted, signal);
    this.#image = { found, at: performance.now() };
    return found;
  }

  /** One list for all that begin or end, of one owner. */
  #poll(owner: Owner, nova: Nova): SharedPoll<Server[]> {
    const tags = ownerTags(owner);
    const name = tags.join();
    const { requestTimeoutMs } = this.#options.config;
    const read = () => nova.listServers(tags, AbortSignal.timeout(4 * requestTimeoutMs));
    const poll = this.#polls.get(name) ?? new SharedPoll(read, POLL_MS);
    this.#polls.set(name, poll);
    return poll;
  }

  async #untilActive(owner: Owner, serverId: string, signal: AbortSignal): Promise<Server> {
    const poll = this.#poll(owner, await this.#connect());
    let missing = 0;
    let isUnexplained = false;
    return poll.until((servers) => {
      const server = servers.find(({ id }) => id === serverId);
      if (server === undefined && ++missing < UNLISTED_POLLS) return undefined;
      if (server === undefined || DELETED.has(server.status)) {
        throw new FleetingdError("NOT_FOUND", `the server ${serverId} vanished while it was built`);
      }
      if (server.status === "ACTIVE") return server;
      if (!ENDED.has(server.status)) return undefined;
      if (server.fault !== undefined || isUnexplained) throw failedBuild(server);
      // Nova writes the status first, and the reason a moment later.
      isUnexplained = true;
      return undefined;
    }, signal);
  }

  async #untilBooted(nova: Nova, server: Server, bootTimeMs: number, signal: AbortSignal): Promise<void> {
    const deadline = performance.now() + bootTimeMs;
    let console = "";
    for (;;) {
      try {
        console = (await nova.console(server.id, signal)) ?? console;
      } catch (error) {
        throw new FleetingdError(
          "INVALID_CONFIG",
          `the console of ${server.name} can't be read: ${messageOf(error)}`,
          {
            hint: "Leave boot_time out where consoles can't be read; an SSH login is then waited for, and nothing else.",
            cause: error,
          },
        );
      }
      if (hasBooted(console, this.#options.config.useIgnition)) return;
      if (performance.now() + CONSOLE_POLL_MS > deadline) throw tooSlow(server, bootTimeMs, console);
      await sleep(CONSOLE_POLL_MS, signal);
    }
  }

  async #serversOf(
    nova: Nova,
    machine: { id: string; owner: Owner },
    serverId: unknown,
    signal: AbortSignal,
  ): Promise<string[]> {
    if (typeof serverId === "string") return [serverId];
    return (await nova.listServers(tagsOf(machine), signal)).map((server) => server.id);
  }

  #ownPorts(): ReadonlySet<string> {
    const { networks } = this.#options.config.serverSpec;
    const ports = Array.isArray(networks) ? networks.map((network: { port?: unknown }) => network.port) : [];
    return new Set(ports.filter((port) => typeof port === "string"));
  }
}

function failedBuild(server: Server): FleetingdError {
  const reason = server.fault?.message ?? "Nova does not say why";
  // The scheduler found no room, or a quota that is only looked at later was reached.
  const isFull = /no valid host|quota|exceeded/i.test(reason);
  return new FleetingdError(
    isFull ? "EXHAUSTED" : "HYPERVISOR_FAILED",
    `the server ${server.name} could not be built, its status is ${server.status}: ${reason}`,
  );
}

function tooSlow(server: Server, bootTimeMs: number, console: string): FleetingdError {
  return new FleetingdError(
    "TIMEOUT",
    `the set-up of ${server.name} did not end within ${bootTimeMs / 1000} s (boot_time), by its console:\n${consoleEnd(console) || "(empty)"}`,
    { hint: "Raise boot_time, or leave it out if the image writes nothing to the serial console." },
  );
}

/** Keys as `clouds.yaml` has them. */
async function tlsOf(access: CloudAccess): Promise<TlsOptions> {
  return {
    certificateAuthority: await readNamedFile(access.authorityPath, "cacert"),
    clientCertificate: await readNamedFile(access.certificatePath, "cert"),
    clientKey: await readNamedFile(access.keyPath, "key"),
    insecure: access.insecure,
  };
}
