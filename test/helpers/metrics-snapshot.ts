/** What a daemon would say of itself when somebody asks for its metrics. */
import type { PoolSnapshot, Snapshot } from "../../src/metrics/snapshot.ts";

export const POOL: PoolSnapshot = {
  name: "ci",
  instances: [
    { state: "ready", claimed: false },
    { state: "ready", claimed: true },
    { state: "ready", claimed: true },
  ],
  sources: [
    {
      name: "rack",
      state: "failing",
      retryInMs: 4_000,
      instances: 3,
      maxInstances: 20,
      costPerHour: 0.25,
    },
  ],
  warmDesired: 2,
  maxInstances: 8,
  capacity: 4,
  limit: "memory",
  draining: false,
  retryInMs: 1_500,
  plans: 7,
  planSeconds: 0.5,
  plannedAt: 1_700_000_000_000,
  imageAgeSeconds: undefined,
  prebuild: "failed",
  diskFreeBytes: 1024,
};
export const SNAPSHOT: Snapshot = {
  version: "1.2.3",
  accelerator: "tcg",
  hypervisor: "QEMU 7.2",
  pools: [POOL],
  unreadableRecords: 0,
  plugins: 1,
  host: {
    memoryBytes: 2048,
    memoryAvailableBytes: 1024,
    memoryPressureRatio: undefined,
    conntrackEntries: 5,
    conntrackLimit: 10,
  },
  process: { cpuSeconds: 1.5, memoryBytes: 100, openFiles: 20, startedAt: 1_700_000_000_000 },
};
