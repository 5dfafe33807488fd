/**
 * The steps of an idle instance that takes little of its host, and of its waking.
 *
 *     record says resting ── source rests it ── (asleep) ── source wakes it ── record says nothing
 *
 * In between a daemon that was killed knows no more than that it may rest: either step can be done again.
 */
import { describeError } from "../errors.ts";
import type { Entry } from "./entry.ts";
import { writeOrLater } from "./records.ts";
import type { StepContext } from "./steps.ts";

const REST_TIMEOUT_MS = 60_000;
const WAKE_TIMEOUT_MS = 5 * 60_000;

/** @throws the source's reason why it does not rest; it may then rest, or not */
export async function restInstance(
  entry: Entry,
  { source, journal, events }: StepContext,
  signal: AbortSignal,
): Promise<void> {
  const { record } = entry;
  const { id, pool } = record;
  const begunAt = performance.now();
  if (!record.resting) {
    record.resting = true;
    await journal.write(record);
  }
  const instance = { id, directory: journal.directoryOf(id), data: record.data };
  try {
    await source.rest?.(instance, AbortSignal.any([signal, AbortSignal.timeout(REST_TIMEOUT_MS)]));
  } catch (error) {
    // It was claimed, or is to be deleted, or the daemon stops.
    if (signal.aborted) return;
    throw error;
  }
  entry.asleep = true;
  events({ kind: "rested", pool, instance: id, seconds: (performance.now() - begunAt) / 1_000 });
}

/** One that does not wake has failed: its group is told, and another one takes its place. */
export async function wakeInstance(
  entry: Entry,
  { source, journal, events, logger }: StepContext,
  signal: AbortSignal,
): Promise<void> {
  const { record } = entry;
  const { id, pool, connectInfo, data } = record;
  const begunAt = performance.now();
  try {
    const until = AbortSignal.any([signal, AbortSignal.timeout(WAKE_TIMEOUT_MS)]);
    if (connectInfo !== undefined) await source.wake?.({ id, connectInfo, data }, until);
  } catch (error) {
    entry.asleep = false;
    // Ended on purpose: its deletion was asked for, or the daemon stops and the next one will wake it.
    if (record.state !== "ready" || signal.aborted) return;
    const lastError = `it rested and could not be woken: ${describeError(error)}`;
    Object.assign(record, { state: "failed", endedAt: Date.now(), lastError });
    logger.error("an instance could not be woken", { instance: id, error: lastError });
    const seconds = (performance.now() - begunAt) / 1_000;
    events({ kind: "failed", pool, instance: id, seconds, phase: "wake", error: lastError });
    await writeOrLater(entry, journal, logger);
    return;
  }
  // Nobody gets it before its record says so, too: the next daemon would wake it in the middle of a job.
  entry.asleep = true;
  delete record.resting;
  await writeOrLater(entry, journal, logger);
  Object.assign(entry, { asleep: false, seenAt: performance.now() });
  const { claimedAt } = record;
  events({
    kind: "woken",
    ...{ pool, instance: id, seconds: (performance.now() - begunAt) / 1_000 },
    ...(claimedAt === undefined ? {} : { waitSeconds: (Date.now() - claimedAt) / 1_000 }),
  });
}
