/** Waiting: every wait has a deadline and can be cancelled. */
import { setTimeout as delay } from "node:timers/promises";
import { FleetingdError } from "../errors.ts";

export interface WaitOptions {
  timeoutMs: number;
  intervalMs: number;
  signal?: AbortSignal | undefined;
  /** Completes "timed out waiting for …". */
  what: string;
}

/** Resolves after `ms`, or throws CANCELLED as soon as `signal` is aborted. */
export async function sleep(ms: number, signal?: AbortSignal): Promise<void> {
  try {
    await delay(ms, undefined, signal === undefined ? {} : { signal });
  } catch (error) {
    throw new FleetingdError("CANCELLED", "cancelled while waiting", { cause: error });
  }
}

/**
 * Calls `probe` until it answers something other than undefined.
 * @throws FleetingdError TIMEOUT or CANCELLED, and whatever `probe` throws.
 */
export async function waitFor<T>(probe: () => Promise<T | undefined>, options: WaitOptions): Promise<T> {
  const deadline = performance.now() + options.timeoutMs;
  for (;;) {
    const answer = await probe();
    if (answer !== undefined) return answer;
    if (performance.now() >= deadline) {
      throw new FleetingdError(
        "TIMEOUT",
        `timed out after ${options.timeoutMs / 1000} s waiting for ${options.what}`,
      );
    }
    await sleep(options.intervalMs, options.signal);
  }
}

/** Between two looks: each is longer than the one before, up to the longest. */
export interface GrowingPauses {
  firstMs: number;
  longestMs: number;
  /** By how much. Default 2. */
  factor?: number;
}

/**
 * Calls `look` until it answers something other than undefined.
 * @param signal has the deadline
 * @throws FleetingdError CANCELLED, and whatever `look` throws
 */
export async function lookUntil<T>(
  look: () => Promise<T | undefined>,
  { firstMs, longestMs, factor = 2 }: GrowingPauses,
  signal: AbortSignal,
): Promise<T> {
  for (let pauseMs = firstMs; ; pauseMs = Math.min(longestMs, pauseMs * factor)) {
    const answer = await look();
    if (answer !== undefined) return answer;
    await sleep(pauseMs, signal);
  }
}

/** Settles like `work`, but throws TIMEOUT when it takes longer than `timeoutMs`. `work` itself goes on. */
export async function withTimeout<T>(work: Promise<T>, timeoutMs: number, what: string): Promise<T> {
  const timer = new AbortController();
  const timeout = delay(timeoutMs, undefined, { signal: timer.signal }).then(
    () => {
      throw new FleetingdError("TIMEOUT", `timed out after ${timeoutMs / 1000} s waiting for ${what}`);
    },
    () => new Promise<never>(() => undefined),
  );
  try {
    return await Promise.race([work, timeout]);
  } finally {
    timer.abort();
  }
}

/** Settles like `work`, but throws CANCELLED as soon as `signal` is aborted. `work` itself goes on. */
export function abortable<T>(work: Promise<T>, signal: AbortSignal, message: string): Promise<T> {
  return new Promise((resolve, reject) => {
    const abort = (): void => reject(new FleetingdError("CANCELLED", message));
    if (signal.aborted) abort();
    signal.addEventListener("abort", abort, { once: true });
    work.then(resolve, reject).finally(() => signal.removeEventListener("abort", abort));
  });
}
