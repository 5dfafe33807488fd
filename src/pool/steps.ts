/** The two steps that have side effects: making an instance, and tearing one down. */
import { describeError } from "../errors.ts";
import type { Logger } from "../log.ts";
import type { Source } from "../sources/source.ts";
import type { Entry } from "./entry.ts";
import type { Journal } from "./journal.ts";
import { writeOrLater } from "./records.ts";

export interface StepContext {
  source: Source;
  journal: Journal;
  logger: Logger;
}

const DELETE_TIMEOUT_MS = 120_000;

/**
 * Makes the instance of a journaled record; answers why it failed, or undefined.
 * Afterwards the record is `ready`, `failed`, or `deleting` if that was asked for meanwhile.
 */
export async function createInstance(
  entry: Entry,
  { source, journal, logger }: StepContext,
  signal: AbortSignal,
  unclaimed: () => readonly string[],
): Promise<string | undefined> {
  const { record } = entry;
  const log = logger.child({ instance: record.id, stage: "CREATE" });
  record.phases = [];
  log.info("creating an instance");
  try {
    const { connectInfo } = await source.create({
      id: record.id,
      directory: journal.directoryOf(record.id),
      signal,
      unclaimed,
      phase: (name) => void record.phases.push({ name, at: Date.now() }),
      save: async (data) => {
        record.data = { ...data };
        await journal.write(record);
      },
    });
    if (record.state !== "creating") return undefined;
    Object.assign(record, { state: "ready", readyAt: Date.now(), connectInfo });
    Object.assign(entry, { seenAt: performance.now(), idleSince: performance.now() });
    await writeOrLater(entry, journal, log);
    log.info("an instance is ready", { ms: Date.now() - record.createdAt });
    return undefined;
  } catch (error) {
    // Ended on purpose: its deletion was asked for, or the daemon stops and will find the record.
    if (record.state !== "creating" || signal.aborted) return undefined;
    const reason = describeError(error);
    Object.assign(record, { state: "failed", endedAt: Date.now(), lastError: reason });
    log.error("an instance could not be made", { error: reason });
    await writeOrLater(entry, journal, log);
    return reason;
  }
}

/** Tears an instance down; only its record is left. */
export async function deleteInstance(entry: Entry, context: StepContext, signal: AbortSignal): Promise<void> {
  const { record } = entry;
  const stored = { id: record.id, directory: context.journal.directoryOf(record.id), data: record.data };
  await context.source.delete(stored, AbortSignal.any([signal, AbortSignal.timeout(DELETE_TIMEOUT_MS)]));
  context.logger.info("an instance is gone", { instance: record.id, stage: "DELETE" });
}
