/** Waits until a condition holds; its deadline is only for what hangs. */
import { waitFor } from "../../src/host/wait.ts";

/** @returns waits of a test file: `until("the source to fail", async () => …)` */
export function createUntil(options: { timeoutMs: number; intervalMs: number }) {
  return (what: string, condition: () => boolean | Promise<boolean>): Promise<true> =>
    waitFor(async () => ((await condition()) ? true : undefined), { ...options, what });
}
