/** What others see of an instance. */
import type { SourceData } from "../sources/source.ts";
import { type Entry, isResting } from "./entry.ts";
import type { InstanceRecord, InstanceState } from "./instance.ts";

export interface InstanceView {
  id: string;
  state: InstanceState;
  group: string | undefined;
  /** Nobody can log in to it before it is woken. */
  resting: boolean;
  address: string | undefined;
  createdAt: number;
  readyAt: number | undefined;
  lastError: string | undefined;
  /** How often its step failed. */
  failures: number;
  /** How long until that is tried again, in milliseconds; 0 if nothing is waited for. */
  retryInMs: number;
  phases: InstanceRecord["phases"];
  /** What its source keeps of it. */
  data: SourceData;
}

export function view(entry: Entry): InstanceView {
  const { record } = entry;
  return {
    id: record.id,
    state: record.state,
    group: record.group,
    resting: isResting(entry),
    address: record.connectInfo?.address,
    createdAt: record.createdAt,
    readyAt: record.readyAt,
    lastError: record.lastError,
    failures: entry.backoff.failures,
    retryInMs: Math.max(0, entry.notBefore - performance.now()),
    phases: record.phases,
    data: record.data,
  };
}

/** As the group that has claimed it sees it: one that still rests is on its way. */
export function viewOfGroup(entry: Entry): InstanceView {
  const seen = view(entry);
  return seen.resting && seen.state === "ready" ? { ...seen, state: "creating" } : seen;
}
