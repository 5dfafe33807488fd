/** What metrics say of the daemon at the moment, gathered when somebody asks. */
import { freeBytes, ifExists, listDirectory } from "../host/files.ts";
import { readMemoryLoad } from "../host/host-load.ts";
import type { HostSnapshot, PoolSnapshot, Snapshot } from "../metrics/snapshot.ts";
import { readConnectionTable } from "../network/conntrack.ts";
import type { DaemonPool } from "./daemon-pool.ts";

export interface SnapshotInput {
  version: string;
  accelerator: string;
  hypervisor: string;
  pools: readonly DaemonPool[];
  unreadableRecords: number;
  plugins: number;
}

const STARTED_AT = Date.now() - process.uptime() * 1_000;

export async function takeSnapshot(input: SnapshotInput): Promise<Snapshot> {
  const { user, system } = process.cpuUsage();
  return {
    ...input,
    pools: await Promise.all(input.pools.map(poolSnapshot)),
    host: await hostSnapshot(),
    process: {
      cpuSeconds: (user + system) / 1e6,
      memoryBytes: process.memoryUsage.rss(),
      openFiles: (await listDirectory("/proc/self/fd")).length,
      startedAt: STARTED_AT,
    },
  };
}

async function poolSnapshot({ pool, images, config }: DaemonPool): Promise<PoolSnapshot> {
  const { isHeld, shortage, plannedMsAgo, ...condition } = pool.condition;
  const image = images?.status;
  return {
    ...condition,
    name: pool.name,
    instances: pool.all().map((one) => ({ state: one.state, claimed: one.group !== undefined })),
    sources: pool.sources,
    warmDesired: pool.settings.warmInstances,
    maxInstances: pool.settings.maxInstances,
    limit: shortage === undefined ? undefined : (shortage.limit ?? "source"),
    draining: isHeld,
    plannedAt: Date.now() - plannedMsAgo,
    imageAgeSeconds: image?.current && Math.max(0, (Date.now() - image.current.createdAt.getTime()) / 1_000),
    prebuild: image?.state ?? "none",
    diskFreeBytes: image && (await ifExists(freeBytes(config.diskDirectory))),
  };
}

async function hostSnapshot(): Promise<HostSnapshot> {
  const memory = readMemoryLoad();
  const connections = readConnectionTable();
  return {
    memoryBytes: memory.totalBytes,
    memoryAvailableBytes: memory.availableBytes,
    memoryPressureRatio: memory.pressurePercent === undefined ? undefined : memory.pressurePercent / 100,
    conntrackEntries: connections?.entries,
    conntrackLimit: connections?.limit,
  };
}
