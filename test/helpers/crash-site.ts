/**
 * A world whose daemon is killed again and again while a job is connected to one of its instances: nothing of that may ever
 * change, and whatever else the dead one left is in order as soon as its successor has come to rest.
 *
 *     FLEETINGD_CRASH_EVERY=N    at every N-th boundary; 1 for all, also where only some are tried otherwise
 *     FLEETINGD_CRASH_SEED=N     which ones these are; the seed of each run is printed
 */
import assert from "node:assert/strict";
import { randomInt } from "node:crypto";
import { once } from "node:events";
import { readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import type { ConnectInfoResponse } from "../../src/gen/fleeting.ts";
import { exists } from "../../src/host/files.ts";
import type { Login } from "../../src/host/ssh.ts";
import { waitFor } from "../../src/host/wait.ts";
import { Host } from "../system/plugin/host.ts";
import { logIn, type TestDaemon } from "./daemon.ts";
import { STAND_IN_POOL, type StandInWorld, type StartOptions } from "./stand-in-world.ts";

/** Boundaries of looking at something, which is no step; how often that happens by itself is chance. */
export const LOOKS = /ip -j |nft (-j )?list |--version|-- true/;
const TIMEOUT_MS = 60_000;
/** So long after all that was asked for is done, a daemon may still be at the last of its steps. */
const LATEST_STEP_MS = 10_000;
const SEED = Number(process.env["FLEETINGD_CRASH_SEED"] ?? randomInt(2 ** 31));

/** What a daemon is killed in, again and again. */
export interface Ordeal {
  /** For the line that says how often it was killed. */
  what: string;
  /** What each daemon finds is put in order, whatever the one before it left: this waits for that, and asserts it. */
  recovers(daemon: TestDaemon): Promise<void>;
  /** Arms the daemon, and has it do what it is killed in. */
  act(daemon: TestDaemon): Promise<void>;
  /** Those that count; left out: all. */
  choose?(boundaries: readonly string[]): string[];
  /** Fewer that count would mean that the preload misses what the daemon does. */
  fewest: number;
  /** Which of those that count it is killed at; left out: all, and so if that is asked for. */
  sample?: Sample;
  /** Left out: `startArmable`. */
  start?(crashAt?: string): Promise<TestDaemon>;
  /** Such a part of them may not come again, where what is done at once falls together in another way each time. */
  mayMiss?: number;
}

export interface Sample {
  /** One in so many. */
  every: number;
  /** And these. */
  always?: RegExp;
}

export class CrashSite {
  readonly world: StandInWorld;
  readonly #pool: Readonly<Record<string, unknown>>;
  readonly #boundaryLog: string;
  #plugin: Host | undefined;
  #job: { id: string; info: ConnectInfoResponse; login: Login } | undefined;
  /** Every id that was ever seen, and is no more. */
  readonly #gone = new Set<string>();
  #known: string[] = [];

  constructor(world: StandInWorld, pool: Readonly<Record<string, unknown>>) {
    this.world = world;
    this.#pool = pool;
    this.#boundaryLog = join(world.folder, "boundaries.log");
  }

  /** Starts a daemon with `warm` idle instances, and a job in one more. */
  async open(warm: number): Promise<void> {
    const daemon = await this.start();
    await daemon.untilWarm(STAND_IN_POOL, warm);
    this.#plugin = await Host.start();
    await this.#plugin.init({ pool: STAND_IN_POOL, group: "job", socket: daemon.socket });
    assert.equal(await this.#plugin.increase(1), 1);
    const [{ instance: id = "" } = {}] = await this.#plugin.update();
    const info = await this.#plugin.connectInfo(id);
    this.#job = { id, info, login: await logIn(info) };
    await this.converged(daemon, warm);
    await this.kill(daemon);
  }

  /** Removes everything, and asserts that nothing is left. */
  async close(): Promise<void> {
    this.#job?.login.close();
    await this.#plugin?.close();
    const daemon = await this.world.start({ ephemeral: true, pool: this.#pool });
    assert.ok(await daemon.stop(), daemon.log());
    await this.world.assertOnly(async () => []);
    await this.world.remove();
  }

  start(options: StartOptions = {}): Promise<TestDaemon> {
    return this.world.start({ ...options, pool: { ...this.#pool, ...options.pool } });
  }

  /** A daemon that writes down its boundaries from `arm` on, and dies at one of them if that is wanted. */
  async startArmable(crashAt = "", options: StartOptions = {}): Promise<TestDaemon> {
    await rm(this.#boundaryLog, { force: true });
    const env = { FLEETINGD_BOUNDARY_LOG: this.#boundaryLog, FLEETINGD_CRASH_AT: crashAt, ...options.env };
    return this.start({ ...options, preload: ["side-effects.mjs", ...(options.preload ?? [])], env });
  }

  async arm(daemon: TestDaemon): Promise<void> {
    daemon.process.kill("SIGUSR2");
    const armed = async () => ((await exists(this.#boundaryLog)) ? true : undefined);
    await waitFor(armed, { timeoutMs: TIMEOUT_MS, intervalMs: 2, what: "the boundaries to count" });
  }

  /**
   * Those since it was armed, without those that are none of their own: between the end of one step and the beginning of the
   * next nothing changes on the host.
   */
  async boundaries(): Promise<string[]> {
    const all = (await readFile(this.#boundaryLog, "utf8")).trim().split("\n");
    return all.filter(
      (label, index) => !(label.startsWith("before ") && all[index - 1]?.startsWith("after ")),
    );
  }

  /** Kills a daemon at one boundary after the other. Which there are is found out by one that is not killed. */
  async killAtEach(ordeal: Ordeal): Promise<void> {
    const { what, fewest, mayMiss = 0.05, recovers, act } = ordeal;
    const start = ordeal.start ?? ((crashAt?: string) => this.startArmable(crashAt));
    const watched = await start();
    const boundaries = await this.#during(watched, "not killed", async () => {
      await recovers(watched);
      await act(watched);
      return this.boundaries();
    });
    const wanted = ordeal.choose?.(boundaries) ?? boundaries;
    assert.ok(wanted.length >= fewest, boundaries.join("\n"));

    const missed: string[] = [];
    const sample = sampled(wanted, ordeal.sample);
    for (const boundary of sample) {
      const daemon = await start(boundary);
      await this.#during(daemon, `around the boundary "${boundary}"`, async () => {
        await recovers(daemon);
        await act(daemon).catch((error) => died(daemon, error));
        if (!(await diesWithin(daemon, LATEST_STEP_MS))) missed.push(boundary);
      });
    }
    const last = await start();
    await this.#during(last, "after the last one", () => recovers(last));
    process.stdout.write(
      `killed at ${sample.length - missed.length} boundaries of ${boundaries.length}, ${what}\n`,
    );
    assert.ok(
      missed.length <= 1 + sample.length * mayMiss,
      `these did not come again:\n${missed.join("\n")}`,
    );
  }

  /** Ends the daemon, and tells what it has logged if something is wrong. */
  async #during<T>(daemon: TestDaemon, when: string, work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (error) {
      throw new Error(`${when}:\n${daemon.log()}`, { cause: error });
    } finally {
      await this.kill(daemon);
    }
  }

  /** Also one that is dead already. */
  async kill(daemon: TestDaemon): Promise<void> {
    daemon.client.close();
    if (daemon.process.signalCode !== null || daemon.process.exitCode !== null) return;
    const exited = once(daemon.process, "exit");
    daemon.process.kill("SIGKILL");
    await exited;
  }

  /** Waits until there are the job's instance and so many others, and asserts that there is nothing else. */
  async converged(daemon: TestDaemon, others: number): Promise<void> {
    await untilReady(daemon, 1 + others);
    await this.world.assertOnly(async () => (await daemon.status()).instances);
    const ids = (await daemon.status()).instances.map(({ id }) => id);
    for (const id of this.#known) if (!ids.includes(id)) this.#gone.add(id);
    for (const id of ids) assert.ok(!this.#gone.has(id), `the id ${id} was used twice`);
    this.#known = ids;
  }

  async jobGoesOn(): Promise<void> {
    const [job, plugin] = [this.#job, this.#plugin];
    assert.ok(job !== undefined && plugin !== undefined);
    const { stdout, exitCode } = await job.login.exec("hostname", TIMEOUT_MS);
    assert.deepEqual([stdout.trim(), exitCode], [job.id, 0], "the open connection is still answered");
    const states = await plugin.updateUntilAvailable();
    assert.deepEqual(
      states.map(({ instance }) => instance),
      [job.id],
    );
    await plugin.heartbeat(job.id);
    assert.deepEqual(await plugin.connectInfo(job.id), job.info);
  }
}

/** Those at which a daemon is to be killed; all if nothing else is asked for. */
export function sampled(
  boundaries: readonly string[],
  { every: usual, always }: Sample = { every: 1 },
): string[] {
  const every = Number(process.env["FLEETINGD_CRASH_EVERY"] ?? usual);
  if (every > 1) process.stdout.write(`FLEETINGD_CRASH_EVERY=${every} FLEETINGD_CRASH_SEED=${SEED}\n`);
  return boundaries.filter((one, index) => index % every === SEED % every || always?.test(one) === true);
}

/** Waits until there are so many instances, and all of them can be used. */
export async function untilReady(daemon: TestDaemon, count: number): Promise<void> {
  await waitFor(
    async () => {
      const { instances } = await daemon.status();
      const isReady = instances.length === count && instances.every(({ state }) => state === "ready");
      return isReady ? true : undefined;
    },
    { timeoutMs: TIMEOUT_MS, intervalMs: 10, what: `${count} instances, all ready` },
  );
}

/** A call may only fail because the daemon dies. */
export async function died(daemon: TestDaemon, error: unknown): Promise<void> {
  if (!(await diesWithin(daemon, TIMEOUT_MS))) throw error;
}

async function diesWithin(daemon: TestDaemon, timeoutMs: number): Promise<boolean> {
  const isDead = async () => (daemon.process.signalCode === null ? undefined : true);
  const options = { timeoutMs, intervalMs: 2, what: "the daemon's death" };
  return waitFor(isDead, options).catch(() => false);
}

/** Undefined if it was killed before anybody could talk to it. */
export async function startOrDie(start: () => Promise<TestDaemon>): Promise<TestDaemon | undefined> {
  try {
    return await start();
  } catch (error) {
    assert.match(String(error), /the daemon ended \(SIGKILL\)/);
    return undefined;
  }
}
