/**
 * An Incus server or cluster as a cloud. Instances are ephemeral: stopping one, from inside or by a restart of its host, deletes it.
 */
import * as z from "zod";
import { FleetingdError } from "../../errors.ts";
import { ApiClient, ApiError, type ApiRequest, type TlsOptions } from "../../host/api-client.ts";
import { abortable, type GrowingPauses, lookUntil, sleep } from "../../host/wait.ts";
import type { Logger } from "../../log.ts";
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
import { addressOf, type IncusInstance, instanceSchema, profileSchema, stateSchema } from "./answers.ts";
import type { IncusConfig } from "./config.ts";
import { createFailure, explainIncus, isBusy } from "./errors.ts";
import { Operations, operationSchema } from "./operations.ts";
import { fingerprintOf, instanceName, instanceRequest, neededOf, ownerFilter, TAG } from "./request.ts";

const MAX_CONCURRENT_REQUESTS = 16;
/** There is no event for an address. */
const ADDRESS_PAUSES: GrowingPauses = { firstMs: 250, longestMs: 1_000 };
const BUSY_MS = 500;

/** No server is asked yet. @throws FleetingdError INVALID_CONFIG if a file can't be read */
export async function openIncus(config: IncusConfig, logger: Logger): Promise<Cloud> {
  return new Incus(config, await readTls(config), logger);
}

class Incus implements Cloud {
  readonly description: string;
  readonly fingerprint: string;
  readonly #config: IncusConfig;
  readonly #api: ApiClient;
  readonly #operations: Operations;
  /** Creations that the server works at: until their end it deletes nothing. */
  readonly #underway = new Map<string, Promise<unknown>>();
  #rootDisk: Promise<Record<string, string> | undefined> | undefined;
  #onChange: () => void = () => undefined;

  constructor(config: IncusConfig, tls: TlsOptions, logger: Logger) {
    const { url, socketPath, requestTimeoutMs } = config;
    const where = url === undefined ? { baseUrl: "http://incus", socketPath } : { baseUrl: url };
    this.#config = config;
    this.description = `the Incus server ${url ?? socketPath}`;
    this.fingerprint = fingerprintOf(config);
    this.#api = new ApiClient({
      ...where,
      server: this.description,
      tls,
      requestTimeoutMs,
      maxConcurrent: MAX_CONCURRENT_REQUESTS,
      explain: explainIncus,
    });
    const project = encodeURIComponent(config.project);
    const events = `/1.0/events?type=operation,lifecycle&project=${project}`;
    this.#operations = new Operations({
      api: this.#api,
      websocket: {
        url: `${where.baseUrl.replace(/^http/, "ws")}${events}`,
        ...(url === undefined ? { socketPath } : {}),
        tls,
        timeoutMs: requestTimeoutMs,
      },
      onLifecycle: () => this.#onChange(),
      logger,
    });
  }

  onChange(listener: () => void): void {
    this.#onChange = listener;
  }

  async create(request: MachineRequest): Promise<MachineAddress> {
    const { id, signal } = request;
    const name = instanceName(this.#config, id);
    try {
      const body = instanceRequest(this.#config, request, await this.#rootDevice());
      await request.save({ name });
      signal.throwIfAborted();
      request.phase("create");
      // Not ended by the signal: whoever deletes must know what the server is at.
      const creation = this.#start("POST", "/1.0/instances", body, { target: this.#config.target });
      this.#underway.set(id, creation);
      await abortable(creation, signal, "cancelled while Incus made an instance");
      this.#underway.delete(id);
    } catch (error) {
      const { description: server } = this;
      throw createFailure(error, { server, id, project: this.#config.project });
    }
    request.phase("address");
    return { address: await this.#address(name, signal) };
  }

  async remove(machine: StoredMachine, signal: AbortSignal): Promise<void> {
    await this.#underway.get(machine.id)?.catch(() => undefined);
    this.#underway.delete(machine.id);
    for (;;) {
      const instance = await this.#find(machine, signal);
      if (instance === undefined) return;
      try {
        const path = `/1.0/instances/${encodeURIComponent(instance.name)}`;
        if (instance.status === "Stopped") await this.#run("DELETE", path, undefined, signal);
        // With that it is gone.
        else await this.#run("PUT", `${path}/state`, { action: "stop", force: true }, signal);
      } catch (error) {
        if (error instanceof FleetingdError && error.code === "NOT_FOUND") return;
        if (!isBusy(error)) throw error;
        await sleep(BUSY_MS, signal);
      }
    }
  }

  async list(owner: Owner, signal: AbortSignal): Promise<ListedMachine[]> {
    this.#operations.listen();
    const instances = await this.#instances(ownerFilter(owner), signal);
    return instances.flatMap(({ config, status }): ListedMachine[] => {
      const id = config[TAG.instance];
      if (id === undefined) return [];
      return [{ id, state: STATES[status] ?? "starting", reason: `Incus says that it is ${status}` }];
    });
  }

  async examine(signal: AbortSignal): Promise<void> {
    await refuseMissing(neededOf(this.#config), async ({ path }) => {
      const request = { method: "GET", path: this.#path(path, {}), signal, acceptedStatus: [404] } as const;
      return (await this.#api.request(request)).status !== 404;
    });
  }

  async close(): Promise<void> {
    await this.#operations.close();
    this.#api.close();
  }

  /** By its tags: another instance may have its name. */
  async #find({ id, owner, data }: StoredMachine, signal: AbortSignal): Promise<IncusInstance | undefined> {
    const { name } = data;
    if (typeof name !== "string") return (await this.#instances(ownerFilter(owner, id), signal))[0];
    try {
      const path = `/1.0/instances/${encodeURIComponent(name)}`;
      const instance = instanceSchema.parse(await this.#get(path, {}, signal));
      const { config } = instance;
      return config[TAG.daemon] === owner.daemon && config[TAG.instance] === id ? instance : undefined;
    } catch (error) {
      if (error instanceof ApiError && error.code === "NOT_FOUND") return undefined;
      throw error;
    }
  }

  async #instances(filter: string, signal: AbortSignal): Promise<IncusInstance[]> {
    return z
      .array(instanceSchema)
      .parse(await this.#get("/1.0/instances", { recursion: "1", filter }, signal));
  }

  #address(name: string, signal: AbortSignal): Promise<string> {
    const path = `/1.0/instances/${encodeURIComponent(name)}/state`;
    const look = async (): Promise<string | undefined> => {
      const state = stateSchema.parse(await this.#get(path, {}, signal));
      return addressOf(state, this.#config.networkDevice);
    };
    return lookUntil(look, ADDRESS_PAUSES, signal);
  }

  /** The profiles' root disk with the size that is wanted; undefined: theirs is left as it is. */
  #rootDevice(): Promise<Record<string, string> | undefined> {
    if (this.#config.diskSize === undefined) return Promise.resolve(undefined);
    this.#rootDisk ??= this.#readRootDevice(this.#config.diskSize);
    this.#rootDisk.catch(() => {
      this.#rootDisk = undefined;
    });
    return this.#rootDisk;
  }

  async #readRootDevice(size: string): Promise<Record<string, string>> {
    let root: Record<string, string> = { type: "disk", path: "/" };
    for (const profile of this.#config.profiles) {
      const answer = await this.#get(`/1.0/profiles/${encodeURIComponent(profile)}`, {}, undefined);
      const { devices } = profileSchema.parse(answer);
      const found = Object.values(devices).find(({ type, path }) => type === "disk" && path === "/");
      if (found !== undefined) root = { ...root, ...found };
    }
    const pool = this.#config.storagePool ?? root["pool"];
    if (pool !== undefined) return { ...root, pool, size };
    throw new FleetingdError(
      "INVALID_CONFIG",
      `the profiles ${this.#config.profiles.join(", ")} have no root disk`,
      {
        hint: "Name a storage_pool beside disk_size, or a profile with a root disk.",
      },
    );
  }

  async #get(
    path: string,
    query: Readonly<Record<string, string>>,
    signal: AbortSignal | undefined,
  ): Promise<unknown> {
    const answer = await this.#api.request({ method: "GET", path: this.#path(path, query), signal });
    return z.object({ metadata: z.unknown() }).parse(answer.json()).metadata;
  }

  async #run(method: ApiRequest["method"], path: string, json: unknown, signal: AbortSignal): Promise<void> {
    await this.#start(method, path, json, {}, signal);
  }

  /** Asks for something that takes its time, and waits for its end. */
  async #start(
    method: ApiRequest["method"],
    path: string,
    json: unknown,
    query: Readonly<Record<string, string | undefined>>,
    signal: AbortSignal = AbortSignal.timeout(this.#config.createTimeoutMs),
  ): Promise<void> {
    this.#operations.listen();
    const answer = await this.#api.request({
      method,
      path: this.#path(path, query),
      ...(json === undefined ? {} : { json }),
      signal,
    });
    const { metadata } = z.object({ metadata: operationSchema }).parse(answer.json());
    await this.#operations.finish(metadata, signal);
  }

  #path(path: string, query: Readonly<Record<string, string | undefined>>): string {
    const given = Object.entries({ ...query, project: this.#config.project }).filter(
      (entry): entry is [string, string] => entry[1] !== undefined,
    );
    return `${path}?${new URLSearchParams(given)}`;
  }
}

/** A member of a cluster that does not answer for a while makes its instances "Error": they may live. */
const STATES: Readonly<Record<string, ListedMachine["state"]>> = { Running: "running", Stopped: "gone" };

async function readTls(config: IncusConfig): Promise<TlsOptions> {
  return {
    clientCertificate: await readNamedFile(config.clientCertificate, "client_certificate"),
    clientKey: await readNamedFile(config.clientKey, "client_key"),
    serverCertificate: await readNamedFile(config.serverCertificate, "server_certificate"),
  };
}
