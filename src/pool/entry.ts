/** An instance in memory: its record, and what the driver knows of it besides. */
import { type Backoff, createBackoff } from "./backoff.ts";
import type { InstanceRecord } from "./instance.ts";
import type { Observed } from "./planner.ts";

export interface Entry {
  record: InstanceRecord;
  /** The record is on disk: only then may a step have side effects. */
  journaled: boolean;
  /** Aborts the step that is under way. */
  step: AbortController | undefined;
  /** Pauses between attempts at a step that failed. */
  backoff: Backoff;
  /** No step begins before this time, in milliseconds since 1970. */
  notBefore: number;
  /** Torn down; the record waits until its group has been told of the failure. */
  buried: boolean;
  /** The group has seen that it failed. */
  told: boolean;
}

export function newEntry(record: InstanceRecord, journaled: boolean): Entry {
  return {
    record,
    journaled,
    step: undefined,
    backoff: createBackoff({ initialMs: 500, maxMs: 60_000 }),
    notBefore: 0,
    buried: false,
    told: false,
  };
}

/** The planner's view of an entry. */
export function observe(entry: Entry, outdated: boolean, now: number): Observed {
  return {
    id: entry.record.id,
    state: entry.record.state,
    claimed: entry.record.group !== undefined,
    createdAt: entry.record.createdAt,
    busy: entry.step !== undefined || now < entry.notBefore,
    outdated,
    buried: entry.buried,
  };
}
