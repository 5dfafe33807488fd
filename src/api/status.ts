/** What `Status` answers: the daemon as a whole, for people and for monitoring. JSON, so no undefined and no dates. */
import type { InstanceState } from "../pool/instance.ts";

export interface DaemonStatus {
  version: string;
  pid: number;
  uptimeSeconds: number;
  /** How guests are executed: `kvm`, or `tcg` where there is no working KVM. */
  accelerator: string;
  /** The hypervisor and its version. */
  hypervisor: string;
  /** What the processes of VMs are held to, half a sentence. */
  confinement: string;
  pools: readonly PoolStatus[];
  instances: readonly InstanceStatus[];
}

export interface PoolStatus {
  name: string;
  /** What makes its instances: `local`, or the name of a cloud source; several in their order, with commas. */
  source: string;
  /** Each of them in its order; empty for this host alone. */
  sources: readonly PoolSourceStatus[];
  /** The golden image that new instances are made of; null before the first prebuild has ended. */
  goldenImage: string | null;
  goldenImageAgeSeconds: number | null;
  prebuild: PrebuildStatus;
  clones: CloneStatus;
  /** Unclaimed instances: how many are to be ready, and how many are. */
  warm: { desired: number; actual: number };
  /** All its instances by state. */
  counts: Readonly<Record<InstanceState, number>>;
  maxInstances: number;
  /** Why creation is held back, or why there may be fewer instances than configured; null if neither is so. */
  lastError: string | null;
  /** How long no instance is made because the last ones failed; 0 if the next one may begin. */
  retryInSeconds: number;
}

export interface PoolSourceStatus {
  name: string;
  /** `local`, `incus`, … */
  type: string;
  /** `failing`: nothing is made there at the moment. `full`: it works, and has no room. */
  state: "ok" | "full" | "failing";
  /** Why it is not ok; null if it is. */
  problem: string | null;
  /** How long until a failing one is tried again; 0 otherwise. */
  retryInSeconds: number;
  /** What it has of this pool's, those that begin or end included. */
  instances: number;
  /** Null: no bound of its own. */
  maxInstances: number | null;
  costPerHour: number;
}

export interface PrebuildStatus {
  /** `none`: not yet begun. `failed`: the last one failed, and an older golden image stays in use if there is one. */
  state: "none" | "running" | "done" | "failed";
  /** What it does at the moment; null unless it runs. */
  step: string | null;
  /** Why the last one failed; null if it did not. */
  error: string | null;
  /** How long until the next one begins by itself; null for never. */
  nextInSeconds: number | null;
  /** How long its parts took; null unless this daemon made the golden image. */
  timings: { baseSeconds: number; prebuildSeconds: number } | null;
}

export interface CloneStatus {
  /** As configured. */
  mode: "auto" | "snapshot" | "boot";
  /** The snapshot that new instances go on from; null: they boot. */
  snapshot: string | null;
  /** Whether one is being made. */
  isBeingMade: boolean;
  /** Why instances boot although they might go on from a snapshot; null if they do, or are not to. */
  problem: string | null;
  /** How long making the snapshot took; null unless this daemon made it. */
  createSeconds: number | null;
}

export interface InstanceStatus {
  id: string;
  pool: string;
  /** Who claimed it; null for a warm one. */
  group: string | null;
  state: InstanceState;
  address: string | null;
  ageSeconds: number;
  lastError: string | null;
  /** How often the step that it waits for has failed. */
  failures: number;
  /** How long until that step is tried again; 0 if nothing is waited for. */
  retryInSeconds: number;
  goldenImage: string | null;
  /** The snapshot that it went on from; null if it has booted. */
  snapshot: string | null;
  /** How long each phase of its creation took; the last one may still be going on. */
  phases: readonly { name: string; seconds: number }[];
}
