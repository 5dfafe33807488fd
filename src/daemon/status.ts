/** The daemon's state as `Status` answers it. */
import type { CloneStatus, DaemonStatus, InstanceStatus, PoolStatus } from "../api/status.ts";
import { type DeviceTraffic, readDeviceTraffic } from "../host/network-device.ts";
import type { ConnectionTable } from "../network/conntrack.ts";
import { type InstanceState, phaseSeconds } from "../pool/instance.ts";
import type { InstanceView } from "../pool/view.ts";
import type { SnapshotsStatus } from "../sources/local/snapshots.ts";
import { tapNameOf } from "../sources/local/vm.ts";
import { type DaemonPool, isLocal, type LocalPool } from "./daemon-pool.ts";
import { whyTooFew } from "./why.ts";

export interface StatusInput {
  version: string;
  uptimeMs: number;
  accelerator: string;
  hypervisor: string;
  confinement: string;
  connections: ConnectionTable | undefined;
  pools: readonly DaemonPool[];
  /** How long until the next prebuild that begins by itself, in milliseconds; undefined for never. */
  nextPrebuildIn(pool: LocalPool): number | undefined;
}

export function daemonStatus(input: StatusInput, now = Date.now()): DaemonStatus {
  const { pools } = input;
  const traffic = readDeviceTraffic();
  return {
    version: input.version,
    pid: process.pid,
    uptimeSeconds: Math.round(input.uptimeMs / 1000),
    accelerator: input.accelerator,
    hypervisor: input.hypervisor,
    confinement: input.confinement,
    connections: input.connections ?? null,
    pools: pools.map((one) => poolStatus(one, input, now)),
    instances: pools.flatMap(({ pool }) =>
      pool.all().map((instance) => instanceStatus(pool.name, instance, traffic, now)),
    ),
  };
}

function poolStatus(one: DaemonPool, input: StatusInput, now: number): PoolStatus {
  const { pool } = one;
  const instances = pool.all();
  const counts: Record<InstanceState, number> = { creating: 0, ready: 0, deleting: 0, failed: 0 };
  for (const { state } of instances) counts[state]++;
  const { isHeld, shortage, retryInMs } = pool.condition;
  const status = {
    name: pool.name,
    source: pool.sourceName,
    sources: pool.sources.map(({ problem, retryInMs, maxInstances, ...source }) => ({
      ...source,
      maxInstances: maxInstances ?? null,
      problem: problem ?? null,
      retryInSeconds: Math.ceil(retryInMs / 1000),
    })),
    ...(isLocal(one) ? imageStatus(one, input.nextPrebuildIn(one), now) : NO_IMAGE),
    warm: {
      desired: pool.settings.warmInstances,
      actual: instances.filter(({ state, group }) => state === "ready" && group === undefined).length,
    },
    counts,
    maxInstances: pool.settings.maxInstances,
    draining: isHeld,
    lastError: pool.trouble ?? null,
    retryInSeconds: Math.ceil((retryInMs ?? 0) / 1000),
  };
  const making = instances
    .filter(({ state }) => state === "creating")
    .map(({ phases }) => phases.at(-1)?.name);
  return { ...status, why: whyTooFew({ ...status, shortage: shortage?.reason, making }) };
}

const NO_IMAGE: Pick<PoolStatus, "image" | "goldenImage" | "goldenImageAgeSeconds" | "prebuild" | "clones"> =
  {
    image: null,
    goldenImage: null,
    goldenImageAgeSeconds: null,
    prebuild: { state: "none", step: null, error: null, nextInSeconds: null, timings: null },
    clones: { mode: "boot", snapshot: null, isBeingMade: false, problem: null, createSeconds: null },
  };

const seconds = (ms: number): number => Math.round(ms / 100) / 10;

function cloneStatus({ mode, current, isBeingMade, problem, createMs }: SnapshotsStatus): CloneStatus {
  return {
    mode,
    snapshot: current?.name ?? null,
    isBeingMade,
    problem: problem ?? null,
    createSeconds: createMs === undefined ? null : seconds(createMs),
  };
}

function imageStatus(
  { config, images, snapshots }: LocalPool,
  nextPrebuildInMs: number | undefined,
  now: number,
): typeof NO_IMAGE {
  const image = images.status;
  return {
    image: config.image,
    goldenImage: image.current?.name ?? null,
    goldenImageAgeSeconds: image.current ? secondsSince(image.current.createdAt.getTime(), now) : null,
    prebuild: {
      state: image.state,
      step: image.step ?? null,
      error: image.lastError ?? null,
      nextInSeconds: nextPrebuildInMs === undefined ? null : Math.max(0, Math.round(nextPrebuildInMs / 1000)),
      timings: image.timings
        ? { baseSeconds: seconds(image.timings.baseMs), prebuildSeconds: seconds(image.timings.prebuildMs) }
        : null,
    },
    clones: cloneStatus(snapshots.status),
  };
}

function instanceStatus(
  pool: string,
  instance: InstanceView,
  traffic: ReadonlyMap<string, DeviceTraffic>,
  now: number,
): InstanceStatus {
  const tap = traffic.get(tapNameOf(instance.data) ?? "");
  return {
    id: instance.id,
    pool,
    group: instance.group ?? null,
    state: instance.state,
    resting: instance.resting,
    address: instance.address ?? null,
    ageSeconds: secondsSince(instance.createdAt, now),
    lastError: instance.lastError ?? null,
    failures: instance.failures,
    retryInSeconds: Math.ceil(instance.retryInMs / 1000),
    goldenImage: typeof instance.data["goldenImage"] === "string" ? instance.data["goldenImage"] : null,
    snapshot: typeof instance.data["snapshot"] === "string" ? instance.data["snapshot"] : null,
    // What the host's end of the cable receives, the VM has sent.
    traffic: tap === undefined ? null : { receivedBytes: tap.sentBytes, sentBytes: tap.receivedBytes },
    phases: phaseSeconds(instance, now),
  };
}

/** Never negative, though the clock may have been set back meanwhile. */
function secondsSince(time: number, now: number): number {
  return Math.max(0, Math.round((now - time) / 1000));
}
