/** Our two ways, started by the daemon: a clone of the golden image that boots, and one that goes on from a snapshot. */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import type { InstanceStatus } from "../src/api/status.ts";
import type { PluginClient } from "../src/cli/demo/plugin-client.ts";
import { FleetingdError } from "../src/errors.ts";
import { waitFor } from "../src/host/wait.ts";
import { type LocalData, parseLocalData } from "../src/sources/local/vm.ts";
import type { TestDaemon } from "../test/helpers/daemon.ts";
import { ensureGolden, POOL, startBenchDaemon } from "./images.ts";
import type { Measurement, Prepared, Sample } from "./measurement.ts";
import { deleteMs } from "./requests.ts";
import { pssMiB, usedMiB } from "./sizes.ts";

/** `phase` of the daemon's own times ends with the first login; `ready` with the whole system. */
interface Way {
  mode: "boot" | "snapshot";
  phase: "boot" | "resume";
  /** How the names of its numbers begin. */
  prefix: "boot.cold" | "clone.snapshot";
}

const COLD: Way = { mode: "boot", phase: "boot", prefix: "boot.cold" };
const SNAPSHOT: Way = { mode: "snapshot", phase: "resume", prefix: "clone.snapshot" };
const BURST = 8;
const BOOT_TIMEOUT_MS = 5 * 60_000;
const POLL_MS = 20;

export const coldBoot: Measurement = {
  metrics: [
    { name: "boot.cold.ssh.s", goal: { atMost: 0.25, of: "boot.original.ssh.s" } },
    { name: "boot.cold.ready.s" },
    { name: "boot.cold.pss.MiB" },
  ],
  runs: 3,
  prepare: () => prepare(COLD, 1),
};

export const coldBurst: Measurement = {
  metrics: [
    { name: "boot.cold.burst8.ssh.s" },
    { name: "boot.cold.burst8.pss.MiB" },
    { name: "boot.cold.burst8.disk.MiB" },
  ],
  runs: 1,
  prepare: () => prepare(COLD, BURST),
};

export const snapshotClone: Measurement = {
  metrics: [
    {
      name: "clone.snapshot.ssh.s",
      goal: [
        { atMost: 1 / 6, of: "boot.cold.ssh.s" },
        { atMost: 1 / 30, of: "boot.original.ssh.s" },
      ],
    },
    { name: "clone.snapshot.ready.s" },
    { name: "clone.snapshot.alone.pss.MiB" },
  ],
  runs: 5,
  warmups: 1,
  prepare: () => prepare(SNAPSHOT, 1),
};

/** What a clone adds shows when there are several: what they share counts once, in parts. */
export const snapshotBurst: Measurement = {
  metrics: [
    { name: "clone.snapshot.burst8.ssh.s" },
    { name: "clone.snapshot.pss.MiB", goal: { atMost: 1 / 3, of: "boot.cold.pss.MiB" } },
    { name: "clone.snapshot.disk.MiB" },
  ],
  runs: 2,
  prepare: () => prepare(SNAPSHOT, BURST),
};

async function prepare(way: Way, count: number): Promise<Prepared> {
  const pool = { warm_instances: 0, max_instances: count, clone_mode: way.mode };
  const daemon = await startBenchDaemon(pool, { max_concurrent_creates: count });
  try {
    await ensureGolden(daemon);
    const plugin = await daemon.attach({ pool: POOL });
    return {
      run: () => (count === 1 ? runOne(daemon, plugin, way) : runBurst(daemon, plugin, way)),
      close: async () => void (await daemon.stop()),
    };
  } catch (error) {
    await daemon.stop();
    throw error;
  }
}

async function runOne(daemon: TestDaemon, plugin: PluginClient, way: Way): Promise<Sample> {
  await plugin.increase(1);
  const [{ id = "" } = {}] = await untilInstances(daemon, 1, hasLogin);
  const memoryMiB = await pssMiB(pidOf(await readData(daemon, id)));
  const [instance] = await untilInstances(daemon, 1, ({ state }) => state === "ready");
  const seconds = (name: string): number =>
    instance?.phases.find((phase) => phase.name === name)?.seconds ?? Number.NaN;
  await deleteMs(plugin, id);
  const login = seconds(way.phase);
  const pss = way === SNAPSHOT ? "alone.pss" : "pss";
  return {
    [`${way.prefix}.ssh.s`]: login,
    [`${way.prefix}.ready.s`]: login + seconds("ready"),
    [`${way.prefix}.${pss}.MiB`]: memoryMiB,
  };
}

/** From the request to the last of the logins. */
async function runBurst(daemon: TestDaemon, plugin: PluginClient, way: Way): Promise<Sample> {
  const begunAt = performance.now();
  await plugin.increase(BURST);
  await untilInstances(daemon, BURST, hasLogin);
  const seconds = (performance.now() - begunAt) / 1_000;
  const instances = await untilInstances(daemon, BURST, ({ state }) => state === "ready");
  const data = await Promise.all(instances.map(({ id }) => readData(daemon, id)));
  const mean = (values: readonly number[]): number => values.reduce((sum, one) => sum + one, 0) / BURST;
  const memoryMiB = mean(await Promise.all(data.map((one) => pssMiB(pidOf(one)))));
  const diskMiB = mean(await Promise.all(data.map((one) => usedMiB(join(one.cloneDirectory, "disk")))));
  await Promise.all(instances.map(({ id }) => deleteMs(plugin, id)));
  const inBurst = way === SNAPSHOT ? "" : ".burst8";
  return {
    [`${way.prefix}.burst8.ssh.s`]: seconds,
    [`${way.prefix}${inBurst}.pss.MiB`]: memoryMiB,
    [`${way.prefix}${inBurst}.disk.MiB`]: diskMiB,
  };
}

function hasLogin({ phases }: InstanceStatus): boolean {
  return phases.some(({ name }) => name === "ready");
}

function untilInstances(
  daemon: TestDaemon,
  count: number,
  fits: (instance: InstanceStatus) => boolean,
): Promise<InstanceStatus[]> {
  const find = async (): Promise<InstanceStatus[] | undefined> => {
    const instances = (await daemon.status()).instances.filter(({ state }) => state !== "deleting");
    const failed = instances.find(({ state }) => state === "failed");
    if (failed !== undefined)
      throw new FleetingdError("HYPERVISOR_FAILED", `${failed.id} did not start: ${failed.lastError}`);
    const found = instances.filter(fits);
    return found.length >= count ? found : undefined;
  };
  return waitFor(find, { timeoutMs: BOOT_TIMEOUT_MS, intervalMs: POLL_MS, what: `${count} VMs` });
}

async function readData(daemon: TestDaemon, id: string): Promise<LocalData> {
  const record = await readFile(join(daemon.directory, "vms", id, "record.json"), "utf8");
  const data = parseLocalData(id, JSON.parse(record).data);
  if (data !== undefined) return data;
  throw new FleetingdError("INTERNAL", `the record of ${id} names no VM`);
}

function pidOf({ process }: LocalData): number {
  if (process !== undefined) return process.pid;
  throw new FleetingdError("INTERNAL", "a record names no process");
}
