/**
 * Many wait for something in one and the same list: it is asked for once for all of them, and not while nobody waits. So what it
 * costs does not grow with the number of machines that begin or end.
 */
import { FleetingdError } from "../../errors.ts";

interface Waiter<T> {
  look(answer: T): void;
  fail(error: unknown): void;
}

export class SharedPoll<T> {
  readonly #read: () => Promise<T>;
  readonly #intervalMs: number;
  readonly #waiters = new Set<Waiter<T>>();
  #timer: NodeJS.Timeout | undefined;
  #isReading = false;
  #lastError: unknown;

  /** @param read has a deadline of its own */
  constructor(read: () => Promise<T>, intervalMs: number) {
    this.#read = read;
    this.#intervalMs = intervalMs;
  }

  /**
   * Resolves with what `pick` finds first in an answer that was asked for after this call. A server that is away
   * (UNAVAILABLE) is waited for.
   * @throws what `pick` throws, any other error of reading, and when aborted: why there was no answer, or CANCELLED
   */
  until<R>(pick: (answer: T) => R | undefined, signal: AbortSignal): Promise<R> {
    return new Promise<R>((resolve, reject) => {
      const end = (settle: () => void): void => {
        this.#waiters.delete(waiter);
        signal.removeEventListener("abort", aborted);
        settle();
      };
      // The reading that is under way may have begun before what is waited for.
      let isStale = this.#isReading;
      const waiter: Waiter<T> = {
        look: (answer) => {
          if (isStale) {
            isStale = false;
            return;
          }
          try {
            const found = pick(answer);
            if (found !== undefined) end(() => resolve(found));
          } catch (error) {
            end(() => reject(error));
          }
        },
        fail: (error) => end(() => reject(error)),
      };
      const aborted = (): void => {
        const cause = this.#lastError ?? signal.reason;
        waiter.fail(this.#lastError ?? new FleetingdError("CANCELLED", "cancelled while waiting", { cause }));
      };
      if (signal.aborted) return aborted();
      signal.addEventListener("abort", aborted);
      this.#waiters.add(waiter);
      this.#schedule();
    });
  }

  #schedule(): void {
    if (this.#timer !== undefined || this.#isReading || this.#waiters.size === 0) return;
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      this.#isReading = true;
      void this.#poll().finally(() => {
        this.#isReading = false;
        this.#schedule();
      });
    }, this.#intervalMs);
  }

  async #poll(): Promise<void> {
    if (this.#waiters.size === 0) return;
    try {
      const answer = await this.#read();
      this.#lastError = undefined;
      for (const waiter of [...this.#waiters]) waiter.look(answer);
    } catch (error) {
      this.#lastError = error;
      if (error instanceof FleetingdError && error.code === "UNAVAILABLE") return;
      for (const waiter of [...this.#waiters]) waiter.fail(error);
    }
  }
}
