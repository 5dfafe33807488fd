/** Metrics of what is the case at the moment: read when somebody asks, so that they cost nothing at rest. */
import type { Instruments } from "./instruments.ts";

const SOURCE_STATES = ["ok", "full", "failing"] as const;

export interface SourceSnapshot {
  name: string;
  state: (typeof SOURCE_STATES)[number];
  retryInMs: number;
  instances: number;
  maxInstances: number | undefined;
  costPerHour: number;
}

export interface PoolSnapshot {
  name: string;
  instances: readonly { state: string; claimed: boolean }[];
  /** Empty for this host alone. */
  sources: readonly SourceSnapshot[];
  warmDesired: number;
  maxInstances: number;
  capacity: number;
  /** The limit that keeps it from as many instances as configured, a word. */
  limit: string | undefined;
  draining: boolean;
  /** Undefined unless creation is held back. */
  retryInMs: number | undefined;
  plans: number;
  planSeconds: number;
  plannedAt: number;
  imageAgeSeconds: number | undefined;
  prebuild: "none" | "running" | "done" | "failed";
  diskFreeBytes: number | undefined;
}

export interface HostSnapshot {
  memoryBytes: number;
  memoryAvailableBytes: number;
  memoryPressureRatio: number | undefined;
  conntrackEntries: number | undefined;
  conntrackLimit: number | undefined;
}

export interface Snapshot {
  version: string;
  accelerator: string;
  hypervisor: string;
  pools: readonly PoolSnapshot[];
  unreadableRecords: number;
  plugins: number;
  host: HostSnapshot;
  process: { cpuSeconds: number; memoryBytes: number; openFiles: number | undefined; startedAt: number };
}

const STATES = ["creating", "ready", "deleting", "failed"] as const;

export function applySnapshot(metrics: Instruments, snapshot: Snapshot): void {
  const { version, accelerator, hypervisor, host, process } = snapshot;
  metrics.info.reset();
  metrics.info.set({ version, accelerator, hypervisor }, 1);
  metrics.unreadable.set(snapshot.unreadableRecords);
  metrics.plugins.set(snapshot.plugins);
  metrics.memoryTotal.set(host.memoryBytes);
  metrics.memoryAvailable.set(host.memoryAvailableBytes);
  setOrRemove(metrics.memoryPressure, host.memoryPressureRatio);
  setOrRemove(metrics.conntrackEntries, host.conntrackEntries);
  setOrRemove(metrics.conntrackLimit, host.conntrackLimit);
  metrics.processCpu.reset();
  metrics.processCpu.inc(process.cpuSeconds);
  metrics.processMemory.set(process.memoryBytes);
  setOrRemove(metrics.processFiles, process.openFiles);
  metrics.processStart.set(process.startedAt / 1_000);
  // Pools come and go; those that are gone have no value any more.
  for (const one of poolMetrics(metrics)) one.reset();
  for (const pool of snapshot.pools) applyPool(metrics, pool);
}

function poolMetrics(metrics: Instruments) {
  return [
    metrics.instances,
    metrics.warm,
    metrics.warmDesired,
    metrics.maxInstances,
    metrics.capacity,
    metrics.limited,
    metrics.draining,
    metrics.breakerOpen,
    metrics.breakerSeconds,
    metrics.plans,
    metrics.planSeconds,
    metrics.plannedAt,
    metrics.imageAge,
    metrics.prebuildRunning,
    metrics.prebuildFailed,
    metrics.diskFree,
    metrics.sourceState,
    metrics.sourceRetry,
    metrics.sourceInstances,
    metrics.sourceMaximum,
    metrics.sourceCost,
  ];
}

function applyPool(metrics: Instruments, one: PoolSnapshot): void {
  const { name: pool, instances } = one;
  const count = (wanted: string, claimed: boolean): number =>
    instances.filter((instance) => instance.state === wanted && instance.claimed === claimed).length;
  for (const state of STATES) {
    for (const claimed of [true, false])
      metrics.instances.set({ pool, state, claimed: String(claimed) }, count(state, claimed));
  }
  metrics.warm.set({ pool }, count("ready", false));
  metrics.warmDesired.set({ pool }, one.warmDesired);
  metrics.maxInstances.set({ pool }, one.maxInstances);
  metrics.capacity.set({ pool }, one.capacity);
  if (one.limit !== undefined) metrics.limited.set({ pool, limit: one.limit }, 1);
  metrics.draining.set({ pool }, Number(one.draining));
  metrics.breakerOpen.set({ pool }, Number(one.retryInMs !== undefined));
  metrics.breakerSeconds.set({ pool }, (one.retryInMs ?? 0) / 1_000);
  metrics.plans.inc({ pool }, one.plans);
  metrics.planSeconds.inc({ pool }, one.planSeconds);
  metrics.plannedAt.set({ pool }, one.plannedAt / 1_000);
  if (one.imageAgeSeconds !== undefined) metrics.imageAge.set({ pool }, one.imageAgeSeconds);
  metrics.prebuildRunning.set({ pool }, Number(one.prebuild === "running"));
  metrics.prebuildFailed.set({ pool }, Number(one.prebuild === "failed"));
  if (one.diskFreeBytes !== undefined) metrics.diskFree.set({ pool }, one.diskFreeBytes);
  for (const source of one.sources) applySource(metrics, pool, source);
}

function applySource(metrics: Instruments, pool: string, one: SourceSnapshot): void {
  const at = { pool, source: one.name };
  for (const state of SOURCE_STATES) metrics.sourceState.set({ ...at, state }, Number(one.state === state));
  metrics.sourceRetry.set(at, one.retryInMs / 1_000);
  metrics.sourceInstances.set(at, one.instances);
  if (one.maxInstances !== undefined) metrics.sourceMaximum.set(at, one.maxInstances);
  metrics.sourceCost.set(at, one.costPerHour);
}

function setOrRemove(gauge: Instruments["memoryPressure"], value: number | undefined): void {
  if (value === undefined) gauge.remove();
  else gauge.set(value);
}
