/** The two steps that have side effects: making an instance, and tearing one down. */
import { describeError } from "../errors.ts";
import type { EventSink } from "../events.ts";
import type { Logger } from "../log.ts";
import type { ConnectInfo, Source } from "../sources/source.ts";
import type { Entry } from "./entry.ts";
import { phaseSeconds } from "./instance.ts";
import type { Journal } from "./journal.ts";
import { writeOrLater } from "./records.ts";

export interface StepContext {
  source: Source;
  journal: Journal;
  logger: Logger;
  events: EventSink;
}

const DELETE_TIMEOUT_MS = 120_000;

/**
 * Makes the instance of a journaled record; answers why it failed, or undefined.
 * Afterwards the record is `ready`, `failed`, or `deleting` if that was asked for meanwhile.
 */
export async function createInstance(
  entry: Entry,
  { source, journal, logger, events }: StepContext,
  signal: AbortSignal,
  unclaimed: () => readonly string[],
): Promise<string | undefined> {
  const { record } = entry;
  const { id: instance, pool } = record;
  const log = logger.child({ instance, stage: "CREATE" });
  const begunAt = performance.now();
  record.phases = [];
  log.info("creating an instance");
  events({
    kind: "creating",
    pool,
    instance,
    ...(record.group === undefined ? {} : { group: record.group }),
  });
  try {
    const { connectInfo } = await source.create({
      id: record.id,
      directory: journal.directoryOf(record.id),
      signal,
      unclaimed,
      phase: (name) => {
        record.phases.push({ name, at: Date.now() });
        events({ kind: "phase", pool, instance, phase: name });
      },
      fellBack: (to, reason) => events({ kind: "fell-back", pool, instance, to, reason }),
      save: async (data) => {
        record.data = { ...data };
        await journal.write(record);
      },
    });
    if (!(await becomeReady(entry, connectInfo, journal, log))) return undefined;
    log.info("an instance is ready", { ms: Date.now() - record.createdAt });
    events({
      kind: "ready",
      pool,
      instance,
      seconds: secondsSince(begunAt),
      phases: phaseSeconds(record, Date.now()),
      ...(record.claimedAt === undefined ? {} : { waitSeconds: (Date.now() - record.claimedAt) / 1_000 }),
    });
    return undefined;
  } catch (error) {
    // Ended on purpose: its deletion was asked for, or the daemon stops and will find the record.
    if (record.state !== "creating" || signal.aborted) return undefined;
    const reason = describeError(error);
    Object.assign(record, { state: "failed", endedAt: Date.now(), lastError: reason });
    log.error("an instance could not be made", { error: reason });
    const phase = record.phases.at(-1)?.name ?? "record";
    events({ kind: "failed", pool, instance, seconds: secondsSince(begunAt), phase, error: reason });
    await writeOrLater(entry, journal, log);
    return reason;
  }
}

/**
 * Nobody hears that an instance is ready before its record says so on disk, or the next daemon would tear it down; where that
 * can't be written, it serves its job all the same.
 * @returns false if its end was asked for meanwhile
 */
async function becomeReady(
  entry: Entry,
  connectInfo: ConnectInfo,
  journal: Journal,
  logger: Logger,
): Promise<boolean> {
  const { record } = entry;
  const ready = { state: "ready", readyAt: Date.now(), connectInfo } as const;
  for (let isWritten = false; !isWritten; ) {
    if (record.state !== "creating") return false;
    const { group } = record;
    await writeOrLater(entry, journal, logger, { ...record, ...ready });
    // A claim has written its own, which says that it is still being made.
    isWritten = record.group === group;
  }
  if (record.state !== "creating") return false;
  Object.assign(record, ready);
  Object.assign(entry, { seenAt: performance.now(), idleSince: performance.now() });
  return true;
}

/** Tears an instance down; only its record is left. */
export async function deleteInstance(entry: Entry, context: StepContext, signal: AbortSignal): Promise<void> {
  const { record } = entry;
  const begunAt = performance.now();
  const stored = { id: record.id, directory: context.journal.directoryOf(record.id), data: record.data };
  await context.source.delete(stored, AbortSignal.any([signal, AbortSignal.timeout(DELETE_TIMEOUT_MS)]));
  context.logger.info("an instance is gone", { instance: record.id, stage: "DELETE" });
  context.events({ kind: "deleted", pool: record.pool, instance: record.id, seconds: secondsSince(begunAt) });
}

function secondsSince(begunAt: number): number {
  return (performance.now() - begunAt) / 1_000;
}
