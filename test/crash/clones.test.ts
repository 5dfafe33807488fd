/**
 * The daemon is killed at step boundaries of making a snapshot, and of letting a clone go on from it, while a job is connected to another
 * clone: at those where a hypervisor runs, for these are real ones, under emulation. That takes a while, so each run tries others. The
 * rest of the steps are tried with stand-ins (boundaries.test.ts, images.test.ts).
 */
import assert from "node:assert/strict";
import { utimes } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { gcReportSchema } from "../../src/api/images.ts";
import { listDirectory } from "../../src/host/files.ts";
import { waitFor } from "../../src/host/wait.ts";
import { readInventory } from "../../src/images/inventory.ts";
import { slotNetwork, slotOfAddress } from "../../src/network/slots.ts";
import { commandLineOf, parseExactly } from "../helpers/command-line.ts";
import { CrashSite, untilReady } from "../helpers/crash-site.ts";
import type { TestDaemon } from "../helpers/daemon.ts";
import { attachGroup, type GroupClient } from "../helpers/group-client.ts";
import { needsNamespace } from "../helpers/namespace.ts";
import { createEmulatedWorld, STAND_IN_POOL, STAND_IN_SUBNET } from "../helpers/stand-in-world.ts";
import { failOnLeaks } from "../helpers/suite.ts";

failOnLeaks();

const WARM = 1;
// With the job and one more there is no room for another: the new instance is made where the deleted one was.
const POOL = { warm_instances: WARM, max_instances: 1 + WARM, clone_mode: "snapshot" };
const GROUP = { pool: STAND_IN_POOL, group: "crashed" };
/** For a snapshot in use, one that is being made beside it, and what a killed one left. */
const DISK_MIB = 2048;
const TIMEOUT_MS = 120_000;
const START = /the start of the hypervisor/;
const END = /the end of the hypervisor/;
/** Asked again until it is so, which depends on the guest's pace. */
const ASKED_AGAIN = /the command (device_del|chardev-remove)#([2-9]|\d\d)/;

describe("a daemon that is killed, with emulated VMs that go on from a snapshot", {
  skip: needsNamespace(),
}, () => {
  let site: CrashSite;
  /** Of the daemon that runs. */
  let group: GroupClient;
  /** The clone that is claimed, and whose end was not asked for. */
  let claimed: string | undefined;

  before(async () => {
    site = new CrashSite(await createEmulatedWorld(DISK_MIB), POOL);
    await site.open(WARM);
  });
  after(() => site.close());

  async function start(crashAt?: string): Promise<TestDaemon> {
    await site.world.expireLocks();
    return site.startArmable(crashAt);
  }

  async function snapshotInUse(daemon: TestDaemon): Promise<string> {
    return waitFor(async () => (await daemon.status()).pools[0]?.clones.snapshot ?? undefined, {
      timeoutMs: TIMEOUT_MS,
      intervalMs: 20,
      what: "a snapshot",
    });
  }

  /** There is a snapshot and nothing half-made, and a new clone of it is claimed, in which somebody can log in. */
  async function recovers(daemon: TestDaemon): Promise<void> {
    const snapshot = await snapshotInUse(daemon);
    group = await attachGroup(daemon.client, GROUP);
    const ids = (await group.list()).map(({ id }) => id);
    if (claimed !== undefined) assert.deepEqual(ids, [claimed], "what was accepted is kept");
    claimed = undefined;
    await group.decrease(ids);
    await site.converged(daemon, WARM);
    await site.jobGoesOn();
    await leavesNothingOfImages(daemon, snapshot);
    assert.equal(await group.increase(1), 1);
    [claimed] = await group.running();
    await isItself(daemon, claimed ?? assert.fail("no clone"));
  }

  /** The collector knows whatever a killed daemon left, and removes it when it is old. */
  async function leavesNothingOfImages(daemon: TestDaemon, snapshot: string): Promise<void> {
    const { world } = site;
    assert.deepEqual(await listDirectory(join(world.stateDirectory, "prebuild")), []);
    for (const { path } of (await readInventory(world.diskDirectory)).leftovers) await utimes(path, 0, 0);
    parseExactly(gcReportSchema, await commandLineOf(daemon).output("gc", "--json"));
    assert.deepEqual(await listDirectory(join(world.diskDirectory, "snapshots")), [snapshot]);
  }

  async function isItself(daemon: TestDaemon, id: string): Promise<void> {
    const { internalAddress } = await group.connectInfo(id);
    const slot = slotOfAddress(STAND_IN_SUBNET, internalAddress) ?? assert.fail(internalAddress);
    const login = await group.logIn(id);
    try {
      const outputOf = async (command: string): Promise<string> =>
        (await login.exec(command, TIMEOUT_MS)).stdout.trim();
      assert.equal(await outputOf("hostname"), id);
      assert.equal(
        await outputOf("/bin/busybox cat /sys/class/net/eth0/address"),
        slotNetwork(STAND_IN_SUBNET, slot).macAddress,
      );
    } finally {
      login.close();
    }
    const instance = (await daemon.status()).instances.find((one) => one.id === id);
    assert.equal(instance?.snapshot, await snapshotInUse(daemon));
  }

  test("while it makes a snapshot, leaves none that is half-made, and makes it", async () => {
    await site.killAtEach({
      ...{ what: "while it made a snapshot of an emulated VM", recovers, start, fewest: 5 },
      async act(daemon) {
        // As one that was written to.
        await utimes(
          join(site.world.diskDirectory, "snapshots", await snapshotInUse(daemon), "memory"),
          0,
          0,
        );
        await site.arm(daemon);
        assert.notEqual(await daemon.prebuild(STAND_IN_POOL), "");
      },
      choose: (boundaries) => boundaries.slice(indexOf(boundaries, START), indexOf(boundaries, END) + 1),
      sample: { every: 4 },
    });
  });

  test("while a clone goes on from it, makes another in its place", async () => {
    await site.killAtEach({
      ...{ what: "while an emulated VM went on from a snapshot", recovers, start, fewest: 15 },
      async act(daemon) {
        const ended = claimed ?? assert.fail("no clone");
        await site.arm(daemon);
        claimed = undefined;
        await group.decrease([ended]);
        await untilReady(daemon, 1 + WARM);
      },
      choose: (boundaries) =>
        boundaries.slice(indexOf(boundaries, START)).filter((boundary) => !ASKED_AGAIN.test(boundary)),
      sample: { every: 6 },
    });
  });
});

function indexOf(boundaries: readonly string[], pattern: RegExp): number {
  return boundaries.findIndex((boundary) => pattern.test(boundary));
}
