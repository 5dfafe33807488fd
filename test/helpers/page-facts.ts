/** What a daemon with any number of VMs would tell the web page; the schemas of its interface judge it. */
import {
  type DaemonStatus,
  type InstanceStatus,
  type PoolStatus,
  statusSchema,
} from "../../src/api/status.ts";
import { createEventHub, type EventHub } from "../../src/daemon/event-hub.ts";
import { createEventHistory } from "../../src/daemon/history.ts";
import { FleetingdError } from "../../src/errors.ts";
import type { DaemonEvent } from "../../src/events.ts";
import { createMetrics } from "../../src/metrics/metrics.ts";
import type { DaemonActions, DaemonFacts } from "../../src/web/facts.ts";

export interface MadeUpDaemon {
  readonly facts: DaemonFacts;
  readonly actions: DaemonActions;
  /** What was asked of it, in words. */
  readonly asked: string[];
  /** Change it as you like: the next look sees it. */
  readonly status: DaemonStatus;
  /** How often its status was asked for. */
  readonly looks: () => number;
  emit(event: DaemonEvent): void;
  /** Where consoles are; nowhere at first. */
  consoles: Map<string, string>;
}

const GIB = 1024 ** 3;

export function madeUpDaemon(vms: number, more: Partial<PoolStatus> = {}): MadeUpDaemon {
  const hub: EventHub = createEventHub();
  const history = createEventHistory(hub);
  const metrics = createMetrics(() => Promise.reject(new Error("there is no snapshot")));
  hub.subscribe(metrics.observe);
  const instances = Array.from({ length: vms }, (_, index) => madeUpInstance(index));
  const status = statusSchema.parse({
    version: "0.1.0",
    pid: 42,
    uptimeSeconds: 90_061,
    accelerator: "kvm",
    hypervisor: "Cloud Hypervisor 52.0",
    confinement: "without capabilities, as users of their own",
    connections: { entries: 1_204, limit: 262_144, isNearlyFull: false },
    pools: [madeUpPool(instances, more)],
    instances,
  } satisfies DaemonStatus);
  let looks = 0;
  const consoles = new Map<string, string>();
  const asked: string[] = [];
  return {
    status,
    consoles,
    asked,
    actions: {
      async drain(held) {
        asked.push(held ? "drain" : "undo drain");
        for (const pool of status.pools) pool.draining = held;
      },
      prebuild: async (pool) => void asked.push(`prebuild ${pool}`),
      async remove(instance) {
        const one = status.instances.find(({ id }) => id === instance);
        if (one === undefined)
          throw new FleetingdError("NOT_FOUND", `there is no instance ${instance}`, { hint: "Look again." });
        asked.push(`remove ${instance}`);
        one.state = "deleting";
      },
    },
    looks: () => looks,
    emit: hub.emit,
    facts: {
      async status() {
        looks += 1;
        return structuredClone(status);
      },
      images: async () => ({
        images: [
          {
            kind: "golden",
            name: "90b86f2799084708",
            directory: "/srv",
            pools: ["ci"],
            base: "noble",
            ageSeconds: 7_300,
            bytes: 3 * GIB,
            vms,
            current: true,
          },
          {
            kind: "base",
            name: "noble-20261101",
            directory: "/srv",
            pools: ["ci"],
            base: null,
            ageSeconds: 1_728_000,
            bytes: 0.6 * GIB,
            vms: 0,
            current: true,
          },
        ],
      }),
      distributions: () => metrics.distributions(),
      events: history,
      consolePath: (instance) => consoles.get(instance),
    },
  };
}

/** As pools have them: most in use, some warm, some on their way. */
export function madeUpInstance(index: number): InstanceStatus {
  const kind =
    ["in use", "in use", "warm", "in use", "creating", "in use", "warm", "deleting"][index % 8] ?? "warm";
  const state = kind === "creating" || kind === "deleting" ? kind : "ready";
  return {
    id: `fl-${(index + 1_000_000).toString(36).padStart(12, "b")}`,
    pool: "ci",
    group: kind === "in use" || kind === "deleting" ? `ci/team-${index % 5}` : null,
    state,
    resting: false,
    address: state === "creating" ? null : `172.16.${Math.floor(index / 64)}.${(index % 64) * 4 + 2}`,
    ageSeconds: 15 + index * 7,
    lastError: null,
    failures: 0,
    retryInSeconds: 0,
    goldenImage: "90b86f2799084708",
    snapshot: null,
    traffic: state === "creating" ? null : { receivedBytes: index * 1_234_567, sentBytes: index * 98_765 },
    phases: [
      { name: "image", seconds: 0.02 },
      { name: "clone", seconds: 0.11 },
      { name: "boot", seconds: 1.2 + (index % 7) / 10 },
      ...(state === "creating" ? [] : [{ name: "ready", seconds: 0.3 }]),
    ],
  };
}

function madeUpPool(instances: readonly InstanceStatus[], more: Partial<PoolStatus>): PoolStatus {
  const counts = { creating: 0, ready: 0, deleting: 0, failed: 0 };
  for (const { state } of instances) counts[state]++;
  const warm = instances.filter(({ state, group }) => state === "ready" && group === null).length;
  return {
    name: "ci",
    source: "local",
    sources: [],
    image: "default",
    goldenImage: "90b86f2799084708",
    goldenImageAgeSeconds: 7_300,
    prebuild: { state: "done", step: null, error: null, nextInSeconds: 79_000, timings: null },
    clones: { mode: "boot", snapshot: null, isBeingMade: false, problem: null, createSeconds: null },
    warm: { desired: warm, actual: warm },
    counts,
    maxInstances: Math.max(8, Math.ceil(instances.length * 1.2)),
    draining: false,
    lastError: null,
    retryInSeconds: 0,
    why: null,
    ...more,
  };
}

/** The life of an instance up to its claim, as the daemon tells it. */
export function tellStart({ emit }: MadeUpDaemon, instance: string, seconds: number): void {
  const pool = "ci";
  const phases = [
    { name: "image", seconds: 0.01 * seconds },
    { name: "clone", seconds: 0.1 * seconds },
    { name: "boot", seconds: 0.7 * seconds },
    { name: "ready", seconds: 0.19 * seconds },
  ];
  emit({ kind: "creating", pool, instance });
  for (const { name } of phases) emit({ kind: "phase", pool, instance, phase: name });
  emit({ kind: "ready", pool, instance, seconds, phases });
  emit({ kind: "claimed", pool, instance, group: "ci/team-1", from: "warm" });
}
