/** Tells when one of a pool's sources begins to fail, is full, or has room again. */
import type { EventSink } from "../events.ts";
import type { Source, SourceStatus } from "../sources/source.ts";

export interface SourceWatchOptions {
  /** Of the pool. */
  name: string;
  source: Pick<Source, "status">;
  events: EventSink;
}

export class SourceWatch {
  readonly #options: SourceWatchOptions;
  /** By the sources' names; of one that nothing was told of it is `ok`. */
  readonly #states = new Map<string, SourceStatus["state"]>();

  constructor(options: SourceWatchOptions) {
    this.#options = options;
  }

  /** Looks how they do; call it about once a second. */
  tick(): void {
    const { name: pool, source, events } = this.#options;
    for (const { name, state, problem, retryInMs } of source.status?.() ?? []) {
      if (state === (this.#states.get(name) ?? "ok")) continue;
      this.#states.set(name, state);
      const more = problem === undefined ? {} : { problem };
      const retry = state === "failing" ? { retryInSeconds: retryInMs / 1_000 } : {};
      events({ kind: "source", pool, source: name, state, ...more, ...retry });
    }
  }
}
