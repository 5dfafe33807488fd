/** Waiting for a place of a limiter that many share; who came first gets the first place that is free. */
import { FleetingdError } from "../../errors.ts";

/** A bound on how much is done at a time. */
export interface Limit {
  tryTake(): boolean;
  give(): void;
  onFree(listener: () => void): void;
}

export class Places {
  readonly #limit: Limit;
  readonly #waiting = new Set<() => void>();

  constructor(limit: Limit) {
    this.#limit = limit;
    limit.onFree(() => this.#next());
  }

  /** Runs `work` in a place. @throws FleetingdError CANCELLED if the signal ends the wait */
  async within<T>(signal: AbortSignal, work: () => Promise<T>): Promise<T> {
    await this.#take(signal);
    try {
      return await work();
    } finally {
      this.#limit.give();
    }
  }

  #take(signal: AbortSignal): Promise<void> {
    if (this.#waiting.size === 0 && this.#limit.tryTake()) return Promise.resolve();
    return new Promise((resolve, reject) => {
      const enter = (): void => {
        this.#waiting.delete(enter);
        signal.removeEventListener("abort", leave);
        resolve();
      };
      const leave = (): void => {
        this.#waiting.delete(enter);
        reject(new FleetingdError("CANCELLED", "cancelled while waiting for others"));
      };
      if (signal.aborted) return leave();
      signal.addEventListener("abort", leave, { once: true });
      this.#waiting.add(enter);
    });
  }

  #next(): void {
    const [first] = this.#waiting;
    if (first !== undefined && this.#limit.tryTake()) first();
  }
}
