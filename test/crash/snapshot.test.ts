/** Snapshots that are half made, damaged, missing or impossible: VMs boot then, it is told of, and nothing is left. Stand-ins for VMs. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { readdir, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, afterEach, before, describe, test } from "node:test";
import type { CloneStatus } from "../../src/api/status.ts";
import { listDirectory, removeTree } from "../../src/host/files.ts";
import { callUnary } from "../../src/host/grpc.ts";
import { waitFor } from "../../src/host/wait.ts";
import { listSnapshots } from "../../src/images/snapshots.ts";
import type { TestDaemon } from "../helpers/daemon.ts";
import { attachGroup } from "../helpers/group-client.ts";
import { needsNamespace } from "../helpers/namespace.ts";
import { createStandInWorld, STAND_IN_POOL, type StandInWorld } from "../helpers/stand-in-world.ts";
import { failOnLeaks } from "../helpers/suite.ts";

failOnLeaks();

const TIMEOUT_MS = 60_000;

describe("VMs that could go on from a snapshot", { skip: needsNamespace() }, () => {
  let world: StandInWorld;
  let daemon: TestDaemon;

  before(async () => {
    world = await createStandInWorld();
  });
  after(() => world.remove());

  afterEach(async () => {
    assert.ok(await daemon.stop(), `${daemon.process.exitCode} ${daemon.process.signalCode} ${daemon.log()}`);
    await world.assertOnly(async () => []);
    await removeTree(world.stateDirectory);
  });

  /** Its VMs outlive it if it is killed, and not if it is told to end. */
  async function start(pool: Readonly<Record<string, unknown>>): Promise<void> {
    daemon = await world.start({ pool: { clone_mode: "auto", ...pool }, ephemeral: true });
  }
  async function kill(): Promise<void> {
    daemon.client.close();
    if (daemon.process.exitCode !== null || daemon.process.signalCode !== null) return;
    const exited = once(daemon.process, "exit");
    daemon.process.kill("SIGKILL");
    await exited;
  }
  const eventually = <T>(what: string, probe: () => Promise<T | undefined>): Promise<T> =>
    waitFor(probe, { timeoutMs: TIMEOUT_MS, intervalMs: 5, what });
  const clones = async (): Promise<CloneStatus> => {
    const [pool] = (await daemon.status()).pools;
    assert.ok(pool);
    return pool.clones;
  };
  const waysOf = async (): Promise<Array<string | null>> =>
    (await daemon.status()).instances.map(({ snapshot }) => snapshot);
  const instances = async (): Promise<Array<{ id: string; address: string | null }>> =>
    (await daemon.status()).instances
      .map(({ id, address }) => ({ id, address }))
      .sort((a, b) => a.id.localeCompare(b.id));
  const untilMade = (): Promise<string> =>
    eventually("a snapshot", async () => (await clones()).snapshot ?? undefined);

  test("do so, and are the same VMs to the next daemon", async () => {
    await start({ warm_instances: 0 });
    await daemon.prebuild(STAND_IN_POOL);
    const name = await untilMade();
    await kill();
    await start({ warm_instances: 2 });
    await daemon.untilWarm(STAND_IN_POOL, 2);
    assert.deepEqual(await waysOf(), [name, name]);
    const before = await instances();
    await kill();
    await start({ warm_instances: 2 });
    await daemon.untilWarm(STAND_IN_POOL, 2);
    assert.deepEqual(await instances(), before);
    await world.assertOnly(async () => before);
    assert.equal((await clones()).snapshot, name);
  });

  test("leave nothing of a template whose daemon was killed, and there is a snapshot in the end", async () => {
    await removeTree(join(world.diskDirectory, "snapshots"));
    await start({ warm_instances: 1 });
    await eventually("a template", async () =>
      (await world.inspect()).processes.some((id) => id.startsWith("template-")) ? true : undefined,
    );
    await kill();
    await world.expireLocks();
    await start({ warm_instances: 1 });
    await daemon.untilWarm(STAND_IN_POOL, 1);
    const name = await untilMade();
    await world.assertOnly(async () => (await daemon.status()).instances);
    assert.deepEqual(await listDirectory(join(world.stateDirectory, "prebuild")), []);
    const found = await listSnapshots(world.diskDirectory);
    assert.deepEqual(
      found.map((snapshot) => snapshot.name),
      [name],
    );
  });

  const damages: ReadonlyArray<[what: string, damage: (directory: string) => Promise<void>, said: RegExp]> = [
    [
      "state",
      (path) => writeFile(join(path, "state", "devices"), "nonsense"),
      /the checksum of its devices' state/,
    ],
    ["memory", (path) => truncate(join(path, "memory"), 4096), /its memory has 4096 bytes/],
    ["description", (path) => writeFile(join(path, "snapshot.json"), "{}"), /does not describe a snapshot/],
  ];
  for (const [what, damage, said] of damages) {
    test(`boot when the ${what} of the snapshot is damaged, and it is made anew`, async () => {
      await start({ warm_instances: 0 });
      await daemon.prebuild(STAND_IN_POOL);
      const name = await untilMade();
      await damage(join(world.diskDirectory, "snapshots", name));
      const group = await attachGroup(daemon.client, { pool: STAND_IN_POOL, group: "g" });
      await group.increase(1);
      await eventually("the VM", async () => (await group.running())[0]);
      assert.deepEqual(await waysOf(), [null]);
      assert.match(daemon.log(), said);
      assert.equal(await untilMade(), name);
      await group.increase(1);
      await eventually("the next VM", async () => (await group.running())[1]);
      assert.deepEqual(new Set(await waysOf()), new Set([null, name]));
      assert.equal((await clones()).problem, null);
      const { text } = await callUnary(daemon.client.metrics.bind(daemon.client), {}, TIMEOUT_MS);
      assert.match(text, /^fleetingd_fallbacks_total\{pool="ci",to="boot"\} 1$/m);
    });
  }

  test("boot where a template has no room, or are not made if they are not to boot", async () => {
    await start({ warm_instances: 1, vm_memory_mb: 2048 });
    await daemon.untilWarm(STAND_IN_POOL, 1);
    assert.deepEqual(await waysOf(), [null]);
    // Only when that VM is ready is a template tried.
    await eventually("the reason", async () =>
      /too little for the memory of a template/.test((await clones()).problem ?? "") ? true : undefined,
    );
    await kill();
    await start({ warm_instances: 0, vm_memory_mb: 2048, clone_mode: "snapshot" });
    await assert.rejects(
      async () => assert.notEqual(await daemon.prebuild(STAND_IN_POOL), ""),
      /too little for the memory of a template|notEqual/,
    );
  });

  test("boot all the same if that is asked for, and no snapshot is made", async () => {
    await removeTree(join(world.diskDirectory, "snapshots"));
    await start({ warm_instances: 1, clone_mode: "boot" });
    await daemon.untilWarm(STAND_IN_POOL, 1);
    assert.deepEqual([await waysOf(), (await clones()).problem], [[null], null]);
    assert.deepEqual(await listDirectory(join(world.diskDirectory, "snapshots")), []);
    assert.deepEqual(await readdir(join(world.stateDirectory, "vms")).then((names) => names.length), 1);
  });
});
