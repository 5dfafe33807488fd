/** An instance in memory: its record, and what the driver knows of it besides. */
import { type Backoff, createBackoff } from "./backoff.ts";
import type { InstanceRecord } from "./instance.ts";
import type { Observed } from "./planner.ts";

export interface Entry {
  record: InstanceRecord;
  /** The record is on disk: only then may a step have side effects. */
  journaled: boolean;
  /** The record on disk is older than this one, because a write failed. */
  unsaved: boolean;
  /** A request writes it down: no step begins before that is durable. */
  isBeingWritten: boolean;
  /** Aborts the step that is under way. */
  step: AbortController | undefined;
  /** When that step began, in milliseconds of `performance.now()`. */
  stepSince: number;
  /** Pauses between attempts at a step that failed. */
  backoff: Backoff;
  /** No step begins before this time, in milliseconds of `performance.now()`: the host's clock may be set. */
  notBefore: number;
  /** Its source has nothing of it any more, and may have given what it had to another one. */
  isGone: boolean;
  /** Torn down; the record waits until its group has been told of the failure. */
  buried: boolean;
  /** When it was torn down, in milliseconds of `performance.now()`. */
  buriedAt: number;
  /** The group has seen that it failed. */
  told: boolean;
  /** Why jobs on it will fail, though it lives. */
  trouble: string | undefined;
  /** It rests: what of that its record says has been done. */
  asleep: boolean;
  /** When it last showed that it lives, in milliseconds of `performance.now()`. */
  seenAt: number;
  /** When it became ready, or was taken over: likewise. */
  idleSince: number;
}

export function newEntry(record: InstanceRecord, journaled: boolean): Entry {
  return {
    record,
    journaled,
    unsaved: false,
    isBeingWritten: false,
    step: undefined,
    stepSince: 0,
    backoff: createBackoff({ initialMs: 500, maxMs: 60_000 }),
    notBefore: 0,
    isGone: false,
    buried: false,
    buriedAt: 0,
    told: false,
    trouble: undefined,
    asleep: false,
    seenAt: performance.now(),
    idleSince: performance.now(),
  };
}

/** Nobody can log in to it before it is woken, and its record says that it is awake. */
export function isResting({ record, asleep }: Entry): boolean {
  return record.resting === true || asleep;
}

/** The planner's view of an entry. @param rests Whether it is to rest as long as it is idle. */
export function observe(
  entry: Entry,
  { outdated, rank = 0, rests }: { outdated: boolean; rank: number | undefined; rests: boolean },
): Observed {
  const mayRest = rests && entry.record.group === undefined;
  return {
    id: entry.record.id,
    state: entry.record.state,
    claimed: entry.record.group !== undefined,
    createdAt: entry.record.createdAt,
    busy: entry.step !== undefined || entry.isBeingWritten || performance.now() < entry.notBefore,
    outdated,
    rank,
    mustRest: mayRest && !entry.asleep,
    mustWake: !mayRest && entry.record.resting === true,
    buried: entry.buried,
  };
}

/** The oldest first. */
export function byAge(a: Entry, b: Entry): number {
  return a.record.createdAt - b.record.createdAt;
}
