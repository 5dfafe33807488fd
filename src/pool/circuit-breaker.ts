/**
 * Holds back creation after failures: whatever stands against one instance mostly stands against the next one, too.
 *
 *     closed ──failure──▶ open, for a pause that grows ──▶ tried again ──success──▶ closed
 *                           ▲                                  │
 *                           └────────────failure───────────────┘
 */
import { createBackoff } from "./backoff.ts";

export class CircuitBreaker {
  readonly #backoff = createBackoff({ initialMs: 1_000, maxMs: 60_000 });
  #lastError: string | undefined;
  #openedAt = 0;
  #retryAt = 0;

  /**
   * @param begunAt when what failed had begun, in milliseconds of `performance.now()`
   * @returns whether a new pause begins with it
   */
  fail(lastError: string, begunAt: number): boolean {
    // Several that were under way together fail of the same, and count once.
    const isCounted = this.#lastError !== undefined && begunAt < this.#openedAt;
    this.#lastError = lastError;
    if (isCounted) return false;
    this.#openedAt = performance.now();
    this.#retryAt = this.#openedAt + this.#backoff.fail();
    return true;
  }

  succeed(): void {
    this.#lastError = undefined;
    this.#backoff.succeed();
  }

  get isOpen(): boolean {
    return this.retryInMs > 0;
  }

  /** The last failure, until something succeeds. */
  get lastError(): string | undefined {
    return this.#lastError;
  }

  /** How long nothing is tried, in milliseconds. */
  get retryInMs(): number {
    return this.#lastError === undefined ? 0 : Math.max(0, this.#retryAt - performance.now());
  }
}
