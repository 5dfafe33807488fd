/**
 * VMware Cloud Director as a cloud: a vApp of one VM for each instance, since a vApp does one thing at a time. It is known as ours by
 * its name and its description (ownership.ts).
 */
import { createHash, randomBytes } from "node:crypto";
import { publicKeyOf } from "../../cloudinit/keys.ts";
import { FleetingdError } from "../../errors.ts";
import type { TlsOptions } from "../../host/api-client.ts";
import type {
  Cloud,
  ListedMachine,
  MachineAddress,
  MachineRequest,
  Owner,
  StoredMachine,
} from "../remote/cloud.ts";
import { readNamedFile } from "../remote/named-file.ts";
import type { VcdConfig } from "./config.ts";
import { createFailure } from "./errors.ts";
import { Machines } from "./machines.ts";
import { describe, instanceOf, namePattern, saysOwner, vappName } from "./ownership.ts";
import { findPlaces, type Places } from "./places.ts";
import { query } from "./query.ts";
import { pathOf, Session } from "./session.ts";
import { attribute, textOf, type XmlNode } from "./xml.ts";

/** How long what names stand for stays known. */
const PLACES_AGE_MS = 300_000;
const ADMINISTRATORS = { linux: "root", windows: "Administrator" } as const;
const WINRM_PORTS = { winrm: 5_985, "winrm+https": 5_986 } as const;

interface Connection {
  session: Session;
  machines: Machines;
  adminPassword: string | undefined;
  /** Of the key that all machines accept. */
  sharedKey: string | undefined;
}

export class VcdCloud implements Cloud {
  readonly description: string;
  readonly fingerprint: string;
  readonly #config: VcdConfig;
  #connection: Promise<Connection> | undefined;
  #places: { found: Promise<Places>; until: number } | undefined;

  constructor(config: VcdConfig) {
    this.#config = config;
    this.description = `the Cloud Director ${config.url}`;
    this.fingerprint = fingerprintOf(config);
  }

  async create({ id, owner, authorizedKey, save, phase, signal }: MachineRequest): Promise<MachineAddress> {
    const { machines, session, adminPassword, sharedKey } = await this.#connect();
    const config = this.#config;
    try {
      const places = await this.#findPlaces(session, signal);
      const name = vappName(config.vappNamePrefix, owner, id);
      // From here on there may be a vApp of that name, though its address is not known yet.
      await save({ name });
      signal.throwIfAborted();
      const description = describe(config.description, owner, id);
      const vapp = await machines.compose(places, { name, description, vmName: id }, signal);
      const path = pathOf(attribute(vapp, "href") ?? "");
      await save({ name, path });
      phase("copy");
      const vm = await machines.untilComposed(path, vapp, signal);
      const isWindows = /^win/i.test(textOf(vm, "VmSpecSection", "OsType") ?? "");
      const os = isWindows ? "windows" : "linux";
      const username = config.username ?? ADMINISTRATORS[os];
      const password = adminPassword ?? (config.protocol === "ssh" ? undefined : newPassword());
      const guest = {
        isWindows,
        computerName: id,
        username,
        authorizedKey: authorizedKey ?? sharedKey,
        adminPassword: password,
      };
      phase("configure");
      await machines.configure(vm, guest, signal);
      phase("boot");
      const vmPath = pathOf(attribute(vm, "href") ?? "");
      await machines.powerOn(vmPath, signal);
      // The end of it can't be seen from outside there, as by a login with a key that it has brought.
      if (config.protocol !== "ssh") await machines.untilCustomized(vmPath, signal);
      phase("address");
      const address = await machines.untilAddress(vmPath, signal);
      return { address, os, username, ...this.#access(password) };
    } catch (error) {
      // What a name stands for may have changed.
      this.#places = undefined;
      throw signal.aborted ? error : createFailure(error, { server: this.description, id });
    }
  }

  async remove({ id, owner, data }: StoredMachine, signal: AbortSignal): Promise<void> {
    const { machines, session } = await this.#connect();
    const find = async (): Promise<string | undefined> => {
      const records = await this.#records(session, owner, signal);
      return attribute(
        records.find((record) => instanceOf(attribute(record, "name") ?? "", owner) === id),
        "href",
      );
    };
    const path = typeof data["path"] === "string" ? data["path"] : await find();
    if (path === undefined) return;
    await machines.remove(pathOf(path), {
      // What we have made ourselves is known by its address; of anything else the description must say that it is ours.
      isOurs: (vapp) => data["path"] !== undefined || saysOwner(textOf(vapp, "Description") ?? "", owner, id),
      isGone: async () => (await find()) === undefined,
      signal,
    });
  }

  async list(owner: Owner, signal: AbortSignal): Promise<readonly ListedMachine[]> {
    const { machines, session } = await this.#connect();
    const records = await this.#records(session, owner, signal);
    return Promise.all(
      records.map(async (record): Promise<ListedMachine> => {
        const id = instanceOf(attribute(record, "name") ?? "", owner) ?? "";
        const status = attribute(record, "status") ?? "UNKNOWN";
        if (status === "POWERED_ON") return { id, state: "running" };
        // Records are a little behind.
        const ended = await machines.whyEnded(pathOf(attribute(record, "href") ?? ""), signal);
        return ended === undefined ? { id, state: "starting" } : { id, state: "gone", reason: ended };
      }),
    );
  }

  async examine(signal: AbortSignal): Promise<void> {
    const { session } = await this.#connect();
    await findPlaces(session, this.#config, signal);
  }

  async close(): Promise<void> {
    const connection = this.#connection;
    this.#connection = undefined;
    await connection?.then(
      ({ session }) => session.close(),
      // It was never there.
      () => undefined,
    );
  }

  async #records(session: Session, owner: Owner, signal: AbortSignal): Promise<XmlNode[]> {
    const records = await query(session, { type: "vApp", filter: { name: namePattern(owner) } }, signal);
    return records.filter((record) => instanceOf(attribute(record, "name") ?? "", owner) !== undefined);
  }

  #access(password: string | undefined): Partial<MachineAddress> {
    const { protocol, port } = this.#config;
    const secret = password === undefined ? {} : { password };
    if (protocol === "ssh") return { ...secret, ...(port === undefined ? {} : { port }) };
    return { ...secret, protocol, port: port ?? WINRM_PORTS[protocol] };
  }

  #findPlaces(session: Session, signal: AbortSignal): Promise<Places> {
    if (this.#places !== undefined && performance.now() < this.#places.until) return this.#places.found;
    const found = findPlaces(session, this.#config, signal);
    const places = { found, until: performance.now() + PLACES_AGE_MS };
    this.#places = places;
    found.catch(() => {
      if (this.#places === places) this.#places = undefined;
    });
    return found;
  }

  #connect(): Promise<Connection> {
    // Files are read again after a failure: that may have been what was wrong with them.
    this.#connection ??= this.#open().catch((error: unknown) => {
      this.#connection = undefined;
      throw error;
    });
    return this.#connection;
  }

  async #open(): Promise<Connection> {
    const config = this.#config;
    const [adminPassword, certificateAuthority, privateKey] = await Promise.all([
      readSecret(config.adminPasswordFile, "admin_password_file", config.adminPassword),
      readNamedFile(config.caCertificate, "ca_certificate"),
      readSecret(config.sshKeyPath, "ssh_key_path", config.sshKey),
    ]);
    const token = async (): Promise<string> => {
      const text = await readSecret(config.tokenFile, "token_file", config.token);
      if (text !== undefined) return text;
      throw new FleetingdError("INVALID_CONFIG", "there is no token and no token_file");
    };
    const tls: TlsOptions = { certificateAuthority, insecure: config.insecure };
    const secrets = adminPassword === undefined ? [] : [adminPassword];
    const session = new Session({ config, token, tls, server: this.description, secrets });
    const sharedKey = privateKey === undefined ? undefined : publicKeyOf(privateKey);
    return { session, machines: new Machines(session, config), adminPassword, sharedKey };
  }
}

/** Of what machines are made of, whoever asks for it. */
function fingerprintOf(config: VcdConfig): string {
  const { org, virtualDatacenter, network, ipAllocationMode, catalog, template, storageProfile } = config;
  const { cpuCount, coresPerSocket, memoryMiB, diskGiB } = config;
  const what = [org, virtualDatacenter, network, ipAllocationMode, catalog, template, storageProfile];
  return createHash("sha256")
    .update(JSON.stringify([...what, cpuCount, coresPerSocket, memoryMiB, diskGiB]))
    .digest("hex")
    .slice(0, 16);
}

/** Windows wants characters of several kinds. */
function newPassword(): string {
  return `Aa1-${randomBytes(18).toString("base64url")}`;
}

async function readSecret(
  path: string | undefined,
  key: string,
  otherwise?: string,
): Promise<string | undefined> {
  return path === undefined ? otherwise : (await readNamedFile(path, key)).trim();
}
