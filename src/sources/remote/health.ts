/** Whether a cloud works: one that fails is left alone for a while, longer each time, and then tried again. */
import { describeError, FleetingdError } from "../../errors.ts";

const FIRST_PAUSE_MS = 2_000;
const LONGEST_PAUSE_MS = 120_000;
/** A quota may be freed by others than us. */
const FULL_PAUSE_MS = 30_000;
const JITTER = 0.2;

export class Health {
  #failures = 0;
  #trouble: { state: "full" | "failing"; problem: string; until: number } | undefined;

  /** The cloud answered. */
  succeed(): void {
    this.#failures = 0;
    if (this.#trouble?.state === "failing") this.#trouble = undefined;
  }

  /** Something was deleted, so a quota may have room. */
  freed(): void {
    if (this.#trouble?.state === "full") this.#trouble = undefined;
  }

  /** Takes note of an error if it says something of the cloud as a whole, and not just of one machine. */
  fail(error: unknown): void {
    const code = error instanceof FleetingdError ? error.code : undefined;
    if (code === "EXHAUSTED") {
      const until = performance.now() + FULL_PAUSE_MS;
      this.#trouble = { state: "full", problem: describeError(error), until };
    } else if (code === "UNAVAILABLE" || code === "PERMISSION" || code === "INVALID_CONFIG") this.hold(error);
  }

  /** Takes note of a failure whatever it is of. */
  hold(error: unknown): void {
    const now = performance.now();
    // Many requests may fail of one and the same cause: that is one failure.
    if (this.#trouble?.state !== "failing" || now >= this.#trouble.until) this.#failures++;
    const pauseMs = Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** (this.#failures - 1));
    const until = now + pauseMs * (1 - JITTER + 2 * JITTER * Math.random());
    this.#trouble = { state: "failing", problem: describeError(error), until };
  }

  /** What stands against making machines; undefined if nothing does. It stays known after its pause, until something works. */
  get trouble(): { state: "full" | "failing"; problem: string; retryInMs: number } | undefined {
    if (this.#trouble === undefined) return undefined;
    const retryInMs = this.#trouble.until - performance.now();
    if (retryInMs <= 0 && this.#trouble.state === "full") this.#trouble = undefined;
    return this.#trouble && { ...this.#trouble, retryInMs: Math.max(0, retryInMs) };
  }
}
