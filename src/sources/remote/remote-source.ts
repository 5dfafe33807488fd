/**
 * A cloud as a source of instances: what all clouds have in common. It makes a key for each machine, waits for its login, looks
 * for machines that vanished, removes ours that no record names, and leaves a cloud alone that fails.
 *
 * The pool's records are what there should be, the cloud's list is what there is; nothing else is kept.
 */
import { generateSshKeyPair } from "../../cloudinit/keys.ts";
import { FleetingdError } from "../../errors.ts";
import { FAR, readSshBanner, waitForLogin } from "../../host/ssh.ts";
import { askWinRm, waitForWinRm } from "../../host/winrm.ts";
import type { Logger } from "../../log.ts";
import type {
  CheckedInstance,
  CheckOptions,
  ConnectInfo,
  CreateContext,
  CreatedInstance,
  Room,
  Source,
  SourceData,
  SourceStatus,
  StoredInstance,
} from "../source.ts";
import type { Cloud, MachineData, Owner } from "./cloud.ts";
import type { RemoteConfig } from "./config.ts";
import { Health } from "./health.ts";
import { readNamedFile } from "./named-file.ts";
import { Watch } from "./watch.ts";

export interface RemoteSourceOptions {
  /** Of the section `[sources.<name>]`, or one that follows from a plugin's keys. */
  name: string;
  type: string;
  owner: Owner;
  cloud: Cloud;
  config: RemoteConfig;
  logger: Logger;
  /** Resolves when a job could be run. Default: an SSH login. */
  untilReady?: (info: ConnectInfo, options: { timeoutMs: number; signal: AbortSignal }) => Promise<void>;
}

const SSH_PORT = 22;
const DEFAULT_USERNAME = "root";

export class RemoteSource implements Source {
  readonly name: string;
  readonly #options: RemoteSourceOptions;
  readonly #health = new Health();
  readonly #watch: Watch;
  /** Ids of what the pool knows, from the beginning of `create` to the end of `delete`. */
  readonly #known = new Set<string>();

  constructor(options: RemoteSourceOptions) {
    this.name = options.name;
    this.#options = options;
    this.#watch = new Watch({ ...options, health: this.#health, known: this.#known });
  }

  onLost(listener: (id: string, reason: string) => void): void {
    this.#watch.onLost = listener;
  }

  open(options: { sweep: boolean }): void {
    this.#watch.start(options);
  }

  async close(): Promise<void> {
    await this.#watch.stop();
  }

  isOutdated({ fingerprint }: SourceData): boolean {
    return fingerprint !== this.#options.cloud.fingerprint;
  }

  async create(context: CreateContext): Promise<CreatedInstance> {
    const { cloud, config, owner, name } = this.#options;
    const { id } = context;
    this.#known.add(id);
    const timeout = AbortSignal.timeout(config.createTimeoutMs);
    const deadline = performance.now() + config.createTimeoutMs;
    const signal = AbortSignal.any([context.signal, timeout]);
    let phase = "create";
    const enter = (next: string): void => {
      phase = next;
      context.phase(next);
    };
    try {
      enter(phase);
      const key = await this.#credentials(id);
      const machine = await cloud.create({
        id,
        owner,
        authorizedKey: key.authorizedKey,
        save: (machine) =>
          context.save({ source: name, fingerprint: cloud.fingerprint, machine } satisfies RemoteData),
        phase: enter,
        signal,
      });
      this.#health.succeed();
      const connectInfo: ConnectInfo = {
        os: machine.os ?? "linux",
        arch: machine.arch ?? "amd64",
        protocol: machine.protocol ?? "ssh",
        username: config.username ?? machine.username ?? DEFAULT_USERNAME,
        privateKey: key.privateKey,
        ...(machine.password === undefined ? {} : { password: machine.password }),
        address: machine.address,
        port: machine.port ?? SSH_PORT,
      };
      enter("login");
      const timeoutMs = Math.max(1, deadline - performance.now());
      await (this.#options.untilReady ?? logIn)(connectInfo, { timeoutMs, signal });
      this.#watch.expect(id);
      return { connectInfo };
    } catch (error) {
      if (context.signal.aborted) throw error;
      if (timeout.aborted) throw this.#tooSlow(id, phase, error);
      this.#health.fail(error);
      throw error;
    }
  }

  async delete({ id, data }: StoredInstance, signal: AbortSignal): Promise<void> {
    const { cloud, config, owner } = this.#options;
    this.#watch.forget(id);
    const machine = machineOf(data);
    // Nothing is made before something is saved.
    if (machine !== undefined) {
      const timeout = AbortSignal.timeout(config.deleteTimeoutMs);
      await cloud.remove({ id, owner, data: machine }, AbortSignal.any([signal, timeout]));
      this.#health.freed();
    }
    this.#known.delete(id);
  }

  /** The cloud is not asked: it may be away, and that ends no job. What vanished is found by the first polls. */
  async resume({ id, data }: StoredInstance): Promise<boolean> {
    this.#known.add(id);
    if (machineOf(data) === undefined) return false;
    this.#watch.expect(id);
    return true;
  }

  async room(): Promise<Room> {
    const left = this.#options.config.maxInstances - this.#known.size;
    const { trouble } = this.#health;
    if (trouble !== undefined && trouble.retryInMs > 0) return { vms: 0, reason: trouble.problem };
    // A cloud that has failed gets one attempt, not as many as there is room for.
    if (trouble !== undefined) return { vms: Math.min(1, left), reason: trouble.problem };
    return {
      vms: Math.max(0, left),
      reason: `the source ${this.name} is at its maximum of ${this.#options.config.maxInstances} instances (max_instances)`,
    };
  }

  async check({ connectInfo }: CheckedInstance, { answerMs, signal }: CheckOptions): Promise<undefined> {
    if (connectInfo.protocol === "ssh") await readSshBanner(connectInfo, { timeoutMs: answerMs, signal });
    else await askWinRm(connectInfo, AbortSignal.any([signal, AbortSignal.timeout(answerMs)]));
    return undefined;
  }

  status(): readonly SourceStatus[] {
    const { type, config } = this.#options;
    const { trouble } = this.#health;
    const isFull = trouble === undefined && this.#known.size >= config.maxInstances;
    return [
      {
        name: this.name,
        type,
        state: trouble?.state ?? (isFull ? "full" : "ok"),
        problem:
          trouble?.problem ?? (isFull ? `it has ${this.#known.size} instances, its maximum` : undefined),
        retryInMs: trouble?.retryInMs ?? 0,
        instances: this.#known.size,
        maxInstances: config.maxInstances,
        costPerHour: config.costPerHour,
      },
    ];
  }

  async #credentials(id: string): Promise<{ privateKey: string; authorizedKey: string | undefined }> {
    const { sshKey, sshKeyPath } = this.#options.config;
    if (sshKeyPath === undefined) {
      if (sshKey !== undefined) return { privateKey: sshKey, authorizedKey: undefined };
      const { privateKey, publicKey } = generateSshKeyPair(`fleetingd ${id}`);
      return { privateKey, authorizedKey: publicKey };
    }
    return { privateKey: await readNamedFile(sshKeyPath, "ssh_key_path"), authorizedKey: undefined };
  }

  #tooSlow(id: string, phase: string, cause: unknown): FleetingdError {
    const { cloud, config } = this.#options;
    const seconds = config.createTimeoutMs / 1000;
    return new FleetingdError(
      "TIMEOUT",
      `${id} was not ready after ${seconds} s (create_timeout) at ${cloud.description}: it was still in the phase "${phase}"`,
      {
        hint: cause instanceof FleetingdError && cause.code !== "CANCELLED" ? cause.message : undefined,
        cause,
      },
    );
  }
}

interface RemoteData {
  source: string;
  fingerprint: string;
  machine: MachineData;
}

function machineOf(data: SourceData): MachineData | undefined {
  const { machine } = data;
  return typeof machine === "object" && machine !== null && !Array.isArray(machine)
    ? (machine as MachineData)
    : undefined;
}

/** A machine whose key only the runner has can't be logged in to: that its SSH server answers must do. */
async function logIn(info: ConnectInfo, options: { timeoutMs: number; signal: AbortSignal }): Promise<void> {
  if (info.protocol !== "ssh") return waitForWinRm(info, options);
  // The machine makes its own host key, which nobody knows beforehand.
  const login = await waitForLogin({ ...info, hostKey: undefined }, { ...options, pace: FAR });
  login.close();
}
