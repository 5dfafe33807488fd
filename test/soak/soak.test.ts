/**
 * A long time with two runners, compressed: jobs begin and end at random while programs fail, disks fill up, VMs die and the
 * daemon is killed. What must always hold is asked after each step, of the host as it is (test/helpers/invariants.ts); now
 * and then everything comes to rest, and then the host has exactly what the instances need.
 *
 *     FLEETINGD_SOAK_SEED=N    makes the same choices again; the seed of each run is printed
 *     FLEETINGD_SOAK_STEPS=N   how many steps
 */
import assert from "node:assert/strict";
import { randomInt } from "node:crypto";
import { once } from "node:events";
import { after, before, describe, test } from "node:test";
import { memoryFile, usedBytes } from "../../bench/daemon-memory.ts";
import { listProcesses } from "../../src/host/process-list.ts";
import { sleep, waitFor } from "../../src/host/wait.ts";
import type { TestDaemon } from "../helpers/daemon.ts";
import { attachGroup, type GroupClient } from "../helpers/group-client.ts";
import { assertInvariants } from "../helpers/invariants.ts";
import { needsNamespace } from "../helpers/namespace.ts";
import { createRandom } from "../helpers/random.ts";
import type { Fault, FaultPoint } from "../helpers/stand-in-vm.ts";
import { createStandInWorld, STAND_IN_POOL, type StandInWorld } from "../helpers/stand-in-world.ts";
import { failOnLeaks } from "../helpers/suite.ts";

failOnLeaks();

const SEED = Number(process.env["FLEETINGD_SOAK_SEED"] ?? randomInt(2 ** 31));
const STEPS = Number(process.env["FLEETINGD_SOAK_STEPS"] ?? 360);
const STEPS_UNTIL_REST = 60;
const POOL = { warm_instances: 2, max_instances: 10, boot_timeout: "3s" };
const RUNNERS = ["one", "two"] as const;
const FAULTS: readonly (readonly [FaultPoint, Fault])[] = [
  ["nft", "fail"],
  ["nft", "slow"],
  ["ip", "fail"],
  ["genisoimage", "fail"],
  ["genisoimage", "slow"],
  ["qemu-img", "fail"],
  ["disk", "slow"],
  ["hypervisor", "exit"],
  ["hypervisor", "die"],
  ["hypervisor", "hang"],
  ["hypervisor", "mute"],
];
const LONGEST_PAUSE_MS = 120;
/** Longer than the daemon pauses after failures, and than it waits for a hypervisor that hangs. */
const REST_TIMEOUT_MS = 120_000;
/** Of what is in use after a garbage collection: caches that fill, code that is compiled. */
const MOST_GROWTH_MIB = 4;
const MIB = 1024 ** 2;

describe("a soak", { skip: needsNamespace() }, () => {
  let world: StandInWorld;
  let daemon: TestDaemon;
  let groups: GroupClient[] = [];
  /** A new one for each step: how many choices one takes must not change the next. */
  let random = createRandom(SEED);
  /** Every id that was ever seen and is no more. */
  const gone = new Set<string>();
  let known = new Set<string>();
  const counts = new Map<string, number>();
  const count = (what: string, by = 1): void => void counts.set(what, (counts.get(what) ?? 0) + by);

  before(async () => {
    process.stdout.write(`FLEETINGD_SOAK_SEED=${SEED}\n`);
    world = await createStandInWorld();
    await start();
    await daemon.untilWarm(STAND_IN_POOL, POOL.warm_instances);
  });

  after(async () => {
    await kill();
    await clearFaults();
    const last = await world.start({ pool: POOL, ephemeral: true });
    assert.ok(await last.stop(), last.log());
    await world.assertOnly(async () => []);
    await world.remove();
  });

  async function start(): Promise<void> {
    const env = { FLEETINGD_FAULTS: world.programs.faults, FLEETINGD_MEMORY_FILE: memoryFile(world) };
    daemon = await world.start({
      pool: POOL,
      settings: { max_concurrent_creates: 2 },
      preload: ["side-effects.mjs", "memory.mjs"],
      env,
    });
    groups = [];
    for (const group of RUNNERS)
      groups.push(await attachGroup(daemon.client, { pool: STAND_IN_POOL, group }));
  }

  async function kill(): Promise<void> {
    daemon.client.close();
    if (daemon.process.exitCode !== null || daemon.process.signalCode !== null) return;
    const exited = once(daemon.process, "exit");
    daemon.process.kill("SIGKILL");
    await exited;
  }

  async function clearFaults(): Promise<void> {
    for (const [point] of FAULTS) await world.programs.setFault(point, undefined);
    await world.makeRoom();
  }

  const actions: readonly (readonly [weight: number, what: string, act: () => Promise<void>])[] = [
    [
      40,
      "claims",
      async () => {
        const accepted = await random.pick(groups)?.increase(random.between(1, 3));
        count("instances claimed", accepted);
      },
    ],
    [
      34,
      "deletions",
      async () => {
        const group = random.pick(groups);
        const ids = (await group?.list())?.map(({ id }) => id) ?? [];
        await group?.decrease(ids.filter(() => random.next() < 0.6));
      },
    ],
    [
      12,
      "faults",
      async () => {
        const [point, fault] = random.pick(FAULTS) ?? FAULTS[0] ?? ["nft", "fail"];
        await world.programs.setFault(point, fault);
        await sleep(random.between(0, LONGEST_PAUSE_MS));
        await world.programs.setFault(point, undefined);
      },
    ],
    [
      2,
      "full disks",
      async () => {
        await world.fillDisk();
        await random.pick(groups)?.increase(1);
        await sleep(random.between(0, LONGEST_PAUSE_MS));
        await world.makeRoom();
      },
    ],
    [
      8,
      "dead VMs",
      async () => {
        const pid = random.pick(await vmProcesses());
        if (pid !== undefined) process.kill(pid, "SIGKILL");
      },
    ],
    [
      4,
      "killed daemons",
      async () => {
        await kill();
        await start();
      },
    ],
  ];

  function pickAction(): (typeof actions)[number] {
    let left = random.next() * actions.reduce((sum, [weight]) => sum + weight, 0);
    for (const action of actions) {
      left -= action[0];
      if (left < 0) return action;
    }
    return actions[0] as (typeof actions)[number];
  }

  async function vmProcesses(): Promise<number[]> {
    const found = await listProcesses();
    const vms = found.filter(({ arguments: words }) => words[0] === world.programs.hypervisor);
    return vms.map(({ identity }) => identity.pid);
  }

  async function assertStep(): Promise<void> {
    const unsaved = new Set(
      [...daemon.log().matchAll(/a record could not be written.*instance="(fl-\w+)"/g)].map(
        ([, id = ""]) => id,
      ),
    );
    await assertInvariants({ world, pid: daemon.process.pid ?? 0, unsaved });
    const { instances } = await daemon.status();
    const ids = instances.map(({ id }) => id);
    assert.ok(ids.length <= POOL.max_instances, `${ids.length} instances`);
    for (const id of known) if (!ids.includes(id)) gone.add(id);
    for (const id of ids) assert.ok(!gone.has(id), `the id ${id} was used twice`);
    known = new Set(ids);
    const [one = [], two = []] = await Promise.all(groups.map((group) => group.list()));
    const shared = one.filter(({ id }) => two.some((other) => other.id === id));
    assert.deepEqual(shared, [], "no instance has two owners");
  }

  /** Nothing fails any more: soon everything is as it should be. */
  async function rest(): Promise<void> {
    await clearFaults();
    const isResting = async (): Promise<true | undefined> => {
      // As runners do all the time: the record of a failed instance waits until its runner has heard of it.
      await Promise.all(groups.map((group) => group.list()));
      const { instances, pools } = await daemon.status();
      const isReady = instances.every(({ state }) => state === "ready");
      const warm = pools[0]?.warm;
      const isWarm = warm?.actual === warm?.desired || instances.length === POOL.max_instances;
      return isReady && isWarm ? true : undefined;
    };
    const options = { timeoutMs: REST_TIMEOUT_MS, intervalMs: 20, what: "everything to come to rest" };
    await waitFor(isResting, options);
    await world.assertOnly(async () => (await daemon.status()).instances);
  }

  test(`of ${STEPS} steps leaves nothing, loses nothing and does not grow`, async () => {
    const sizesMiB: number[] = [];
    let done: string[] = [];
    try {
      for (let step = 1; step <= STEPS; step++) {
        random = createRandom(SEED + step);
        let [, what, act] = pickAction();
        // Its memory is compared over the second half.
        if (what === "killed daemons" && step > STEPS / 2)
          [, what, act] = actions[0] as (typeof actions)[number];
        count(what);
        done.push(`${step}: ${what}`);
        await act();
        await assertStep();
        await sleep(random.between(0, LONGEST_PAUSE_MS));
        if (step % STEPS_UNTIL_REST !== 0) continue;
        await rest();
        done = [];
        if (step > STEPS / 2) sizesMiB.push((await usedBytes(world, daemon)) / MIB);
      }
    } catch (error) {
      const report = `FLEETINGD_SOAK_SEED=${SEED}\n${done.join("\n")}\n${daemon.log()}\n${JSON.stringify(await daemon.status().catch(String))}`;
      throw new Error(report, { cause: error });
    }
    const all = [...counts].map(([what, times]) => `${times} ${what}`);
    process.stdout.write(
      `${all.join(", ")}; daemon: ${sizesMiB.map((size) => size.toFixed(1)).join(", ")} MiB\n`,
    );
    const growthMiB = (sizesMiB.at(-1) ?? 0) - (sizesMiB[0] ?? 0);
    assert.ok(growthMiB <= MOST_GROWTH_MIB, `the daemon grew by ${growthMiB.toFixed(1)} MiB`);
  });
});
