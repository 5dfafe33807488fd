/** Asks instances that are ready whether they still could serve a job, and tells of those that could not for too long. */
import { messageOf } from "../errors.ts";
import type { Source } from "../sources/source.ts";
import type { Entry } from "./entry.ts";
import type { PoolSettings } from "./settings.ts";

export interface MonitorOptions {
  entries: ReadonlyMap<string, Entry>;
  source: Pick<Source, "check">;
  settings(): Pick<PoolSettings, "heartbeatTimeoutMs">;
  onSick(id: string, reason: string): void;
}

/** Several questions may go unanswered before an instance counts as dead. */
const QUESTIONS_PER_TIMEOUT = 4;
const LONGEST_ANSWER_MS = 15_000;

export class Monitor {
  readonly #options: MonitorOptions;
  readonly #askedAt = new Map<string, number>();
  readonly #asking = new Map<string, Promise<void>>();

  constructor(options: MonitorOptions) {
    this.#options = options;
  }

  /** Asks whose turn it is; call it about once a second. */
  tick(now = performance.now()): void {
    const { entries, source, settings } = this.#options;
    const timeoutMs = settings().heartbeatTimeoutMs;
    if (source.check === undefined || timeoutMs === 0) return;
    for (const id of this.#askedAt.keys()) if (!entries.has(id)) this.#askedAt.delete(id);
    for (const [id, entry] of entries) {
      const last = this.#askedAt.get(id) ?? entry.seenAt;
      const isDue = now - last >= timeoutMs / QUESTIONS_PER_TIMEOUT;
      if (entry.record.state !== "ready" || this.#asking.has(id) || !isDue) continue;
      this.#askedAt.set(id, now);
      const asking = this.#ask(id, entry, timeoutMs).finally(() => this.#asking.delete(id));
      this.#asking.set(id, asking);
    }
  }

  /** Waits for the questions under way; they are short. */
  async stop(): Promise<void> {
    await Promise.allSettled(this.#asking.values());
  }

  async #ask(id: string, entry: Entry, timeoutMs: number): Promise<void> {
    const { source, onSick } = this.#options;
    const { connectInfo } = entry.record;
    if (connectInfo === undefined) return;
    const answerMs = Math.min(LONGEST_ANSWER_MS, timeoutMs / QUESTIONS_PER_TIMEOUT);
    try {
      await source.check?.(connectInfo, AbortSignal.timeout(answerMs));
      entry.seenAt = performance.now();
    } catch (error) {
      const silentMs = performance.now() - entry.seenAt;
      if (silentMs < timeoutMs || entry.record.state !== "ready") return;
      onSick(id, `it has not answered for ${Math.round(silentMs / 1_000)} s: ${messageOf(error)}`);
    }
  }
}
