/**
 * The daemon is killed at step boundaries of making a golden image and its snapshot while older ones are in use, and of removing
 * those, while a job is connected to a VM. Most of these steps are the same as elsewhere, so only some are tried each time: those
 * after which something else is true, and others by chance. Stand-ins for VMs.
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import type { GcReport } from "../../src/api/images.ts";
import { listDirectory } from "../../src/host/files.ts";
import { callUnary } from "../../src/host/grpc.ts";
import { waitFor } from "../../src/host/wait.ts";
import { readInventory } from "../../src/images/inventory.ts";
import { CrashSite } from "../helpers/crash-site.ts";
import type { TestDaemon } from "../helpers/daemon.ts";
import { needsNamespace } from "../helpers/namespace.ts";
import { createStandInWorld, STAND_IN_POOL } from "../helpers/stand-in-world.ts";
import { failOnLeaks } from "../helpers/suite.ts";

failOnLeaks();

const TIMEOUT_MS = 60_000;
const DISK_MIB = 2048;
/** Fewer would mean that the preload misses what the daemon does. */
const FEWEST_BOUNDARIES = 40;
const USUALLY_EVERY = 40;
/** A VM begins to run, the template's memory is written, a VM has ended, and something gets or loses its name. */
const TURNS = [
  "after the (start|end) of the hypervisor",
  "after the command migrate",
  "after rename \\S*/(golden|snapshots)/\\.?(IMAGE|\\.current)",
].join("|");
/** After it the collector takes what nobody uses for nobody's. */
const ROUND_MS = 2 * 60 * 60_000;

describe("a daemon that is killed while it makes images", { skip: needsNamespace() }, () => {
  let site: CrashSite;
  let rounds = 0;

  before(async () => {
    site = new CrashSite(await createStandInWorld(DISK_MIB), {
      ...{ warm_instances: 0, max_instances: 2, clone_mode: "auto" },
    });
    await site.open(0);
  });
  after(() => site.close());

  /** One whose clock is, from `arm` on, later than that of the one before. */
  async function start(crashAt?: string): Promise<TestDaemon> {
    await site.world.expireLocks();
    rounds++;
    const env = { FLEETINGD_CLOCK_SHIFT_MS: String(rounds * ROUND_MS) };
    return site.startArmable(crashAt, { preload: ["clock.mjs"], env });
  }

  async function collectGarbage(daemon: TestDaemon): Promise<GcReport> {
    const call = daemon.client.collectGarbage.bind(daemon.client);
    return JSON.parse((await callUnary(call, { dryRun: false }, TIMEOUT_MS)).json) as GcReport;
  }

  async function makeImages(daemon: TestDaemon): Promise<void> {
    await site.arm(daemon);
    assert.notEqual(await daemon.prebuild(STAND_IN_POOL, true), "");
    await collectGarbage(daemon);
  }

  /** Whatever the killed one left, this one has images to make VMs of, and nothing half-made but what the collector knows. */
  async function recovers(daemon: TestDaemon): Promise<void> {
    await waitFor(
      async () => {
        const [pool] = (await daemon.status()).pools;
        return pool?.goldenImage !== null && pool?.clones.snapshot !== null ? true : undefined;
      },
      { timeoutMs: TIMEOUT_MS, intervalMs: 10, what: "a golden image with its snapshot" },
    );
    await site.converged(daemon, 0);
    assert.deepEqual(await listDirectory(join(site.world.stateDirectory, "prebuild")), []);
    await site.jobGoesOn();
  }

  async function onlyWhatIsUsedIsLeft(daemon: TestDaemon): Promise<void> {
    await site.arm(daemon);
    const { directories } = await collectGarbage(daemon);
    assert.deepEqual(
      directories.map(({ skipped }) => skipped),
      [null],
    );
    const { golden, snapshots, leftovers } = await readInventory(site.world.diskDirectory);
    const status = await daemon.status();
    const used = [...status.pools, ...status.instances].map(({ goldenImage }) => goldenImage);
    assert.deepEqual(new Set(golden.map(({ name }) => name)), new Set(used));
    assert.deepEqual(
      snapshots.map(({ name }) => name),
      status.pools.map(({ clones }) => clones.snapshot),
    );
    assert.deepEqual(leftovers, []);
  }

  test("leaves nothing, and always has images", async () => {
    await site.killAtEach({
      ...{ what: "while it made images", recovers, act: makeImages, start },
      ...{ fewest: FEWEST_BOUNDARIES, mayMiss: 0.25 },
      sample: { every: USUALLY_EVERY, always: new RegExp(TURNS) },
    });
    const daemon = await start();
    await onlyWhatIsUsedIsLeft(daemon);
    await site.kill(daemon);
  });
});
