/**
 * A source whose instances are nothing but entries in a map. It keeps the contract of `Source`, and checks that
 * the pool keeps its side: no overlapping calls for one instance, no id used twice, data saved before it is needed.
 */
import assert from "node:assert/strict";
import { setTimeout as delay } from "node:timers/promises";
import type { CreateContext, Source, StoredInstance } from "../../src/sources/source.ts";

export interface StandInSource extends Source {
  readonly machines: ReadonlySet<string>;
  /** Ids of all that was ever asked for. */
  readonly created: readonly string[];
  /** Makes the next creations fail. */
  failNext(times: number, reason: string): void;
  failNextDeletes(times: number): void;
  /** The machine vanishes by itself. */
  crash(id: string): void;
  /** The machine lives on, but its disk failed. */
  failDisk(id: string): void;
  /** How long a creation takes. */
  bootMs: number;
  idles: "running" | "paused";
  /** Those that rest at the moment. */
  readonly resting: ReadonlySet<string>;
  /** How long it takes to wake one. */
  wakeMs: number;
  failNextRests(times: number): void;
  failNextWakes(times: number): void;
  /** The image that instances are made of; those of another one are outdated. */
  image: string;
}

export function createStandInSource(name = "stand-in"): StandInSource {
  const machines = new Set<string>();
  const created: string[] = [];
  const busy = new Set<string>();
  const resting = new Set<string>();
  let restFailures = 0;
  let wakeFailures = 0;
  let failures = { left: 0, reason: "" };
  let deleteFailures = 0;
  let troubled: (id: string, reason: string) => void = () => undefined;
  let lost: (id: string, reason: string) => void = () => undefined;

  const exclusively = async <T>(id: string, work: () => Promise<T>): Promise<T> => {
    assert.ok(!busy.has(id), `two calls at once for ${id}`);
    busy.add(id);
    try {
      return await work();
    } finally {
      busy.delete(id);
    }
  };

  const source: StandInSource = {
    name,
    machines,
    created,
    bootMs: 1,
    image: "first",
    idles: "running",
    resting,
    wakeMs: 1,
    failNextRests: (times) => {
      restFailures = times;
    },
    failNextWakes: (times) => {
      wakeFailures = times;
    },
    rests: () => source.idles === "paused",
    rest: ({ id }) =>
      exclusively(id, async () => {
        await delay(0);
        if (restFailures-- > 0) throw new Error("does not rest on purpose");
        resting.add(id);
      }),
    wake: ({ id }, signal) =>
      exclusively(id, async () => {
        await delay(source.wakeMs, undefined, { signal });
        if (wakeFailures-- > 0) throw new Error("does not wake on purpose");
        resting.delete(id);
      }),
    failNext: (left, reason) => {
      failures = { left, reason };
    },
    failNextDeletes: (times) => {
      deleteFailures = times;
    },
    failDisk: (id) => troubled(id, "its disk failed"),
    onTrouble: (listener) => {
      troubled = listener;
    },
    crash: (id) => {
      if (machines.delete(id)) lost(id, "the machine vanished");
    },
    create: (context: CreateContext) =>
      exclusively(context.id, async () => {
        assert.ok(!created.includes(context.id), `the id ${context.id} was used twice`);
        created.push(context.id);
        context.phase("boot");
        await context.save({ machine: context.id, image: source.image });
        machines.add(context.id);
        await delay(source.bootMs, undefined, { signal: context.signal });
        if (failures.left > 0) {
          failures.left--;
          throw new Error(failures.reason);
        }
        return { connectInfo: connectInfo(context.id) };
      }),
    delete: (instance: StoredInstance) =>
      exclusively(instance.id, async () => {
        await delay(0);
        if (deleteFailures > 0) {
          deleteFailures--;
          throw new Error("deletion failed on purpose");
        }
        machines.delete(instance.id);
        resting.delete(instance.id);
      }),
    resume: async (instance) => machines.has(instance.id),
    isOutdated: ({ image }) => image !== source.image,
    onLost: (listener) => {
      lost = listener;
    },
  };
  return source;
}

function connectInfo(id: string) {
  return {
    os: "linux",
    arch: "amd64",
    protocol: "ssh" as const,
    username: "ubuntu",
    privateKey: `key of ${id}`,
    address: "192.0.2.1",
    port: 22,
  };
}
