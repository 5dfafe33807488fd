/** The daemon is killed at each step boundary of a claim that wakes an instance. Stand-ins for VMs, whose paused guests answer nobody. */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { waitFor } from "../../src/host/wait.ts";
import { CrashSite, died, sampled, startOrDie } from "../helpers/crash-site.ts";
import type { TestDaemon } from "../helpers/daemon.ts";
import { attachGroup, type GroupClient } from "../helpers/group-client.ts";
import { needsNamespace } from "../helpers/namespace.ts";
import { createStandInWorld, STAND_IN_POOL, type StartOptions } from "../helpers/stand-in-world.ts";
import { failOnLeaks } from "../helpers/suite.ts";

failOnLeaks();

// With the job and one more there is no room for another: a claim wakes, and nothing else happens.
const POOL = { warm_instances: 1, max_instances: 2 };
const PAUSED = { pool: { idle_mode: "paused" } };
const GROUP = { pool: STAND_IN_POOL, group: "woken" };
const FROM_ITS_START = { FLEETINGD_ARMED: "1" };
/** Its record is written, and its VM is told. */
const OF_RESTING = /record\.json|\/vms\/ID|the command/;
/** QEMU has said that its guest stands still. */
const LAST_STEP = /^after the command stop#/;
const TIMEOUT_MS = 60_000;

describe("a daemon that is killed while an instance rests or wakes", { skip: needsNamespace() }, () => {
  let site: CrashSite;
  /** Of the daemon that runs. */
  let group: GroupClient;

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
    await site.arm(daemon);
    assert.equal(await group.increase(1), 1);
    await eventually("it is awake", async () => (await group.running())[0]);
  }

  /** What was claimed is awake in the end, and what comes in its place rests. */
  async function recovers(daemon: TestDaemon): Promise<void> {
    group = await attachGroup(daemon.client, GROUP);
    const ids = (await group.list()).map(({ id }) => id);
    if (ids.length > 0) {
      await eventually("what was claimed to be awake", async () => (await group.running())[0]);
      assert.ok((await daemon.status()).instances.every(({ resting }) => !resting));
    }
    await group.decrease(ids);
    await untilOneRests(daemon);
    await site.jobGoesOn();
  }

  test("leaves nothing that is claimed and rests", async () => {
    await site.killAtEach({
      ...{ what: "while an instance woke", recovers, act: wakeOne, fewest: 1 },
      start: (crashAt) => site.startArmable(crashAt, PAUSED),
    });
  });

  /** A daemon whose instances do not rest wakes what does, and finds all in order. */
  async function wakeAll(options: StartOptions = {}): Promise<string[]> {
    const daemon = await site.startArmable("", options);
    try {
      await eventually("nobody rests", async () => {
        await site.converged(daemon, 1);
        return (await daemon.status()).instances.some(({ resting }) => resting) ? undefined : true;
      });
      await site.jobGoesOn();
      return options.env === undefined ? [] : await site.boundaries();
    } catch (error) {
      throw new Error(daemon.log(), { cause: error });
    } finally {
      await site.kill(daemon);
    }
  }

  async function boundariesOfResting(): Promise<string[]> {
    await wakeAll();
    const ofStarting = new Set(await wakeAll({ env: FROM_ITS_START }));
    const daemon = await site.startArmable("", { ...PAUSED, env: FROM_ITS_START });
    const all = await eventually("an instance to have been stopped where it is", async () => {
      const boundaries = await site.boundaries();
      return boundaries.some((boundary) => LAST_STEP.test(boundary)) ? boundaries : undefined;
    });
    await site.kill(daemon);
    return all.filter((boundary) => OF_RESTING.test(boundary) && !ofStarting.has(boundary));
  }

  test("leaves what was about to rest to one that lets it rest, or wakes it", async () => {
    const boundaries = await boundariesOfResting();
    assert.ok(boundaries.length >= 6, boundaries.join("\n"));
    const missed: string[] = [];
    const sample = sampled(boundaries);
    for (const boundary of sample) {
      await wakeAll();
      const dying = await startOrDie(() => site.startArmable(boundary, { ...PAUSED, env: FROM_ITS_START }));
      if (dying !== undefined) {
        await died(dying, new Error(boundary)).catch(() => missed.push(boundary));
        await site.kill(dying);
      }
    }
    process.stdout.write(`killed at ${sample.length - missed.length} boundaries of resting\n`);
    assert.ok(missed.length <= 1 + sample.length * 0.05, `these did not come again:\n${missed.join("\n")}`);
  });
});
