/** The daemon is killed at each step boundary of a claim that wakes an instance. Stand-ins for VMs, whose paused guests answer nobody. */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { waitFor } from "../../src/host/wait.ts";
import { CrashSite, died } from "../helpers/crash-site.ts";
import type { TestDaemon } from "../helpers/daemon.ts";
import { attachGroup } from "../helpers/group-client.ts";
import { needsNamespace } from "../helpers/namespace.ts";
import { createStandInWorld, STAND_IN_POOL } from "../helpers/stand-in-world.ts";
import { failOnLeaks } from "../helpers/suite.ts";

failOnLeaks();

// With the job and one more there is no room for another: a claim wakes, and nothing else happens.
const POOL = { warm_instances: 1, max_instances: 2 };
const PAUSED = { pool: { idle_mode: "paused" } };
const GROUP = { pool: STAND_IN_POOL, group: "woken" };
const TIMEOUT_MS = 60_000;

describe("a daemon that is killed while an instance rests or wakes", { skip: needsNamespace() }, () => {
  let site: CrashSite;

  before(async () => {
    site = new CrashSite(await createStandInWorld(), POOL);
    await site.open(1);
  });
  after(() => site.close());

  const eventually = <T>(what: string, probe: () => Promise<T | undefined>): Promise<T> =>
    waitFor(probe, { timeoutMs: TIMEOUT_MS, intervalMs: 10, what });

  async function untilOneRests(daemon: TestDaemon): Promise<void> {
    await eventually("one that rests", async () => {
      await site.converged(daemon, 1);
      return (await daemon.status()).instances.some(({ resting }) => resting) ? true : undefined;
    });
  }

  async function wakeOne(daemon: TestDaemon): Promise<void> {
    const group = await attachGroup(daemon.client, GROUP);
    await site.arm(daemon);
    assert.equal(await group.increase(1), 1);
    await eventually("it is awake", async () => (await group.running())[0]);
    group.detach();
  }

  /** What was claimed is awake in the end, and what comes in its place rests. */
  async function recovers(daemon: TestDaemon): Promise<void> {
    const group = await attachGroup(daemon.client, GROUP);
    const ids = (await group.list()).map(({ id }) => id);
    if (ids.length > 0) {
      await eventually("what was claimed to be awake", async () => (await group.running())[0]);
      assert.ok((await daemon.status()).instances.every(({ resting }) => !resting));
    }
    await group.decrease(ids);
    group.detach();
    await untilOneRests(daemon);
    await site.jobGoesOn();
  }

  test("leaves nothing that is claimed and rests", async () => {
    const watched = await site.startArmable("", PAUSED);
    await untilOneRests(watched);
    await wakeOne(watched);
    const boundaries = await site.boundaries();
    await site.kill(watched);
    assert.ok(boundaries.length > 0);
    for (const boundary of [...boundaries, undefined]) {
      const daemon = await site.startArmable(boundary, PAUSED);
      try {
        await recovers(daemon);
        if (boundary !== undefined) await wakeOne(daemon).catch((error) => died(daemon, error));
      } catch (error) {
        throw new Error(`around the boundary "${boundary}":\n${daemon.log()}`, { cause: error });
      } finally {
        await site.kill(daemon);
      }
    }
    process.stdout.write(`killed at ${boundaries.length} boundaries: ${boundaries.join(", ")}\n`);
  });
});
