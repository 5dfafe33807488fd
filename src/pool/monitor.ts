/** Asks instances that are ready whether they still could serve a job, and tells of those that could not. */
import { messageOf } from "../errors.ts";
import type { CheckOptions, Source } from "../sources/source.ts";
import type { Entry } from "./entry.ts";
import type { PoolSettings } from "./settings.ts";

export interface MonitorOptions {
  entries: ReadonlyMap<string, Entry>;
  source: Pick<Source, "check">;
  settings(): Pick<PoolSettings, "heartbeatTimeoutMs">;
  onSick(id: string, reason: string): void;
  /** Told once of an instance that lives, but on which jobs will fail. */
  onTrouble(id: string, reason: string): void;
}

/** Of hundreds nearly all answer, and are seldom asked. */
const QUESTIONS_PER_TIMEOUT = 2;
const QUESTIONS_PER_TIMEOUT_OF_SILENT = 8;
/** Before that an instance does not count as dead, however long it is silent: it may be us who stood still. */
const FEWEST_UNANSWERED = 3;
const LONGEST_ANSWER_MS = 15_000;
const ANSWERS_PER_TIMEOUT = 4;

interface Turn {
  /** In milliseconds of `performance.now()`. */
  askedAt: number;
  /** How many questions in a row it has not answered. */
  unanswered: number;
}

interface Question {
  answered: Promise<void>;
  controller: AbortController;
  /** Nobody had claimed the instance when it was asked. */
  wasIdle: boolean;
}

export class Monitor {
  readonly #options: MonitorOptions;
  readonly #turns = new Map<string, Turn>();
  readonly #questions = new Map<string, Question>();

  constructor(options: MonitorOptions) {
    this.#options = options;
  }

  /** Asks whose turn it is; call it about once a second. */
  tick(now = performance.now()): void {
    const { entries, source, settings } = this.#options;
    const timeoutMs = settings().heartbeatTimeoutMs;
    this.#withdraw();
    if (source.check === undefined || timeoutMs === 0) return;
    for (const id of this.#turns.keys()) if (!entries.has(id)) this.#turns.delete(id);
    for (const [id, entry] of entries) {
      // One that rests, or is about to or wakes, answers nobody.
      if (entry.asleep || entry.step !== undefined) continue;
      if (entry.record.state !== "ready" || this.#questions.has(id)) continue;
      const turn = this.#turns.get(id) ?? someTurn(now, timeoutMs / QUESTIONS_PER_TIMEOUT);
      this.#turns.set(id, turn);
      const questions = turn.unanswered > 0 ? QUESTIONS_PER_TIMEOUT_OF_SILENT : QUESTIONS_PER_TIMEOUT;
      if (now - turn.askedAt < timeoutMs / questions) continue;
      turn.askedAt = now;
      const wasIdle = entry.record.group === undefined;
      const controller = new AbortController();
      const answerMs = Math.min(LONGEST_ANSWER_MS, timeoutMs / ANSWERS_PER_TIMEOUT);
      const options = { answerMs, signal: controller.signal };
      const answered = this.#ask(entry, turn, timeoutMs, options).finally(() => this.#questions.delete(id));
      this.#questions.set(id, { answered, controller, wasIdle });
    }
  }

  /** Withdraws the questions under way. */
  async stop(): Promise<void> {
    const questions = [...this.#questions.values()];
    for (const { controller } of questions) controller.abort();
    await Promise.allSettled(questions.map(({ answered }) => answered));
  }

  /** What an idle instance is asked is nothing for one that serves a job, or is on its way out. */
  #withdraw(): void {
    for (const [id, { controller, wasIdle }] of this.#questions) {
      const record = this.#options.entries.get(id)?.record;
      const isAsBefore =
        record?.state === "ready" && record.resting !== true && (record.group === undefined) === wasIdle;
      if (!isAsBefore) controller.abort();
    }
  }

  async #ask(entry: Entry, turn: Turn, timeoutMs: number, options: CheckOptions): Promise<void> {
    const { signal } = options;
    const { source, onSick, onTrouble } = this.#options;
    const { id, connectInfo, data, group } = entry.record;
    if (connectInfo === undefined) return;
    try {
      const instance = { id, connectInfo, data, isClaimed: group !== undefined };
      const trouble = await source.check?.(instance, options);
      entry.seenAt = performance.now();
      turn.unanswered = 0;
      const isNews = entry.trouble === undefined && entry.record.state === "ready" && !signal.aborted;
      if (isNews && trouble !== undefined) onTrouble(id, trouble);
    } catch (error) {
      if (entry.record.state !== "ready" || signal.aborted) return;
      turn.unanswered++;
      const silentMs = performance.now() - entry.seenAt;
      if (silentMs < timeoutMs || turn.unanswered < FEWEST_UNANSWERED) return;
      onSick(id, `it has not answered for ${Math.round(silentMs / 1_000)} s: ${messageOf(error)}`);
    }
  }
}

/** Any point of the round: instances that are taken over at the same time are not asked at the same time for ever. */
function someTurn(now: number, intervalMs: number): Turn {
  return { askedAt: now - Math.random() * intervalMs, unanswered: 0 };
}
