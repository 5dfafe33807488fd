/** How long to wait before another attempt. */

const FIRST_MS = 100;

/**
 * Doubles with each attempt up to `maxMs`; half of it is random, so that many plugins do not come at once.
 * @param attempt 0 for the first.
 * @param random From 0 up to 1.
 */
export function backoffMs(attempt: number, maxMs: number, random: number = Math.random()): number {
  const full = Math.min(maxMs, FIRST_MS * 2 ** Math.min(attempt, 30));
  return Math.round(full * (0.5 + random / 2));
}
