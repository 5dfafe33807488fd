/** Growing pauses after failures: doubled each time, with jitter so that many do not retry at one moment. */
export interface Backoff {
  /** Counts a failure; answers how long to wait from now, in milliseconds. */
  fail(): number;
  succeed(): void;
  readonly failures: number;
}

const JITTER = 0.2;

export function createBackoff(options: { initialMs: number; maxMs: number }): Backoff {
  let failures = 0;
  return {
    fail() {
      failures++;
      const pauseMs = Math.min(options.maxMs, options.initialMs * 2 ** Math.min(failures - 1, 30));
      return pauseMs * (1 - JITTER + 2 * JITTER * Math.random());
    },
    succeed() {
      failures = 0;
    },
    get failures() {
      return failures;
    },
  };
}
