/**
 * The daemon is killed at each step boundary of making and of deleting an instance, one after the other, and started again
 * each time. Which boundaries there are is found out by a run that is not killed.
 *
 * All the while a job is connected to another instance: nothing of that may ever change.
 */
import assert from "node:assert/strict";
import { once } from "node:events";
import { readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import type { ConnectInfoResponse } from "../../src/gen/fleeting.ts";
import { exists } from "../../src/host/files.ts";
import { type Login, waitForLogin } from "../../src/host/ssh.ts";
import { waitFor } from "../../src/host/wait.ts";
import type { TestDaemon } from "../helpers/daemon.ts";
import { attachGroup } from "../helpers/group-client.ts";
import { needsNamespace } from "../helpers/namespace.ts";
import {
  createStandInWorld,
  STAND_IN_POOL,
  type StandInWorld,
  type StartOptions,
} from "../helpers/stand-in-world.ts";
import { failOnLeaks } from "../helpers/suite.ts";
import { Host } from "../system/plugin/host.ts";

failOnLeaks();

const POOL = { warm_instances: 1, max_instances: 6 };
const SIDE_EFFECTS = ["side-effects.mjs"];
const TIMEOUT_MS = 30_000;
/** Fewer would mean that the preload misses what the daemon does. */
const FEWEST_BOUNDARIES = 100;

/** What a client was told before the daemon died. */
interface Promised {
  accepted: boolean;
  /** The instance that was accepted, and whose end was not asked for. */
  id: string | undefined;
}

describe("a daemon that is killed", { skip: needsNamespace() }, () => {
  let world: StandInWorld;
  let boundaryLog: string;
  let plugin: Host;
  let job: { id: string; info: ConnectInfoResponse; login: Login };
  /** Every id that was ever seen, and is no more. */
  const gone = new Set<string>();
  let known: string[] = [];

  before(async () => {
    world = await createStandInWorld();
    boundaryLog = join(world.folder, "boundaries.log");
    const daemon = await start();
    await daemon.untilWarm(STAND_IN_POOL, 1);
    plugin = await Host.start();
    await plugin.init({ pool: STAND_IN_POOL, group: "job", socket: daemon.socket });
    assert.equal(await plugin.increase(1), 1);
    const [{ instance: id = "" } = {}] = await plugin.update();
    const info = await plugin.connectInfo(id);
    job = { id, info, login: await logIn(info) };
    await converged(daemon);
    await kill(daemon);
  });

  after(async () => {
    job?.login.close();
    await plugin?.close();
    const daemon = await world.start({ ephemeral: true, pool: POOL });
    assert.ok(await daemon.stop(), daemon.log());
    await world.assertOnly(async () => []);
    await world.remove();
  });

  const start = (options: StartOptions = {}): Promise<TestDaemon> => world.start({ pool: POOL, ...options });

  async function kill(daemon: TestDaemon): Promise<void> {
    daemon.client.close();
    if (daemon.process.signalCode !== null) return;
    const exited = once(daemon.process, "exit");
    daemon.process.kill("SIGKILL");
    await exited;
  }

  /** From now on boundaries count. */
  async function arm(daemon: TestDaemon): Promise<void> {
    daemon.process.kill("SIGUSR2");
    const armed = async () => ((await exists(boundaryLog)) ? true : undefined);
    await waitFor(armed, { timeoutMs: TIMEOUT_MS, intervalMs: 2, what: "the boundaries to count" });
  }

  /** One job from its beginning to its end: a warm instance is claimed, another one is made, the first is deleted. */
  async function runJob(daemon: TestDaemon, promised: Promised): Promise<void> {
    const group = await attachGroup(daemon.client, { pool: STAND_IN_POOL, group: "crashed" });
    await arm(daemon);
    promised.accepted = (await group.increase(1)) === 1;
    const [id = ""] = (await group.list()).map((instance) => instance.id);
    promised.id = id;
    await untilReady(daemon, 3);
    promised.id = undefined;
    await group.decrease([id]);
    await untilReady(daemon, 2);
    group.detach();
  }

  /** Asserts that everything is as it has to be with only the job and one warm instance. */
  async function converged(daemon: TestDaemon): Promise<void> {
    await untilReady(daemon, 2);
    await world.assertOnly(async () => (await daemon.status()).instances);
    const ids = (await daemon.status()).instances.map(({ id }) => id);
    for (const id of known) if (!ids.includes(id)) gone.add(id);
    for (const id of ids) assert.ok(!gone.has(id), `the id ${id} was used twice`);
    known = ids;
  }

  async function jobGoesOn(): Promise<void> {
    const { stdout, exitCode } = await job.login.exec("hostname", TIMEOUT_MS);
    assert.deepEqual(
      [stdout.trim(), exitCode],
      [job.id, 0],
      "the connection that was open is still answered",
    );
    const states = await plugin.updateUntilAvailable();
    assert.deepEqual(
      states.map(({ instance }) => instance),
      [job.id],
    );
    await plugin.heartbeat(job.id);
    assert.deepEqual(await plugin.connectInfo(job.id), job.info);
  }

  /** The next daemon finds what the killed one left, keeps its promises and puts the rest in order. */
  async function recovers(daemon: TestDaemon, { accepted, id }: Promised): Promise<void> {
    const group = await attachGroup(daemon.client, { pool: STAND_IN_POOL, group: "crashed" });
    const claimed = (await group.list()).map((instance) => instance.id);
    if (accepted && id !== undefined) assert.deepEqual(claimed, [id], "what was accepted is kept");
    await group.decrease(claimed);
    await converged(daemon);
    group.detach();
    await jobGoesOn();
  }

  test("at every boundary of creation and deletion leaves nothing, and loses nothing", async () => {
    const watched = await start({ preload: SIDE_EFFECTS, env: { FLEETINGD_BOUNDARY_LOG: boundaryLog } });
    await runJob(watched, { accepted: false, id: undefined });
    const boundaries = (await readFile(boundaryLog, "utf8")).trim().split("\n");
    await kill(watched);
    assert.ok(boundaries.length >= FEWEST_BOUNDARIES, boundaries.join("\n"));

    let kills = 0;
    let promised: Promised = { accepted: false, id: undefined };
    for (const boundary of [...boundaries, undefined]) {
      await rm(boundaryLog, { force: true });
      const env = { FLEETINGD_BOUNDARY_LOG: boundaryLog, FLEETINGD_CRASH_AT: boundary ?? "" };
      const daemon = await start({ preload: SIDE_EFFECTS, env });
      try {
        await recovers(daemon, promised);
        promised = { accepted: false, id: undefined };
        if (boundary !== undefined) await runJob(daemon, promised).catch((error) => died(daemon, error));
      } catch (error) {
        throw new Error(`around the boundary "${boundary}":\n${daemon.log()}`, { cause: error });
      } finally {
        if (daemon.process.signalCode === "SIGKILL") kills++;
        await kill(daemon);
      }
    }
    process.stdout.write(`killed at ${kills} boundaries\n`);
    assert.ok(kills >= boundaries.length * 0.95, `${kills} of ${boundaries.length} boundaries came again`);
  });
});

/** Waits until there are so many instances, and all of them can be used. */
async function untilReady(daemon: TestDaemon, count: number): Promise<void> {
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
async function died(daemon: TestDaemon, error: unknown): Promise<void> {
  const isDead = async () => (daemon.process.signalCode === null ? undefined : true);
  const options = { timeoutMs: TIMEOUT_MS, intervalMs: 2, what: "the daemon's death" };
  await waitFor(isDead, options).catch(() => {
    throw error;
  });
}

function logIn(info: ConnectInfoResponse): Promise<Login> {
  return waitForLogin(
    {
      address: info.InternalAddr,
      port: Number(info.connector?.protocolPort),
      username: info.connector?.username ?? "",
      privateKey: Buffer.from(info.connector?.key ?? []).toString(),
      hostKey: undefined,
    },
    { timeoutMs: TIMEOUT_MS, signal: AbortSignal.timeout(TIMEOUT_MS) },
  );
}
