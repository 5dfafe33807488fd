/**
 * What is on disk follows what is in memory, also where a write has failed or somebody has removed the folder: an instance that
 * is up serves its job all the same, and its record is written as soon as that is possible.
 */
import { describeError } from "../errors.ts";
import type { Logger } from "../log.ts";
import type { Entry } from "./entry.ts";
import type { Journal } from "./journal.ts";

/**
 * Writes the record now, or leaves that to `Records.restore`.
 * @param record what it is about to become
 */
export async function writeOrLater(
  entry: Entry,
  journal: Journal,
  logger: Logger,
  record = entry.record,
): Promise<void> {
  try {
    await journal.write(record);
    entry.unsaved = false;
  } catch (error) {
    entry.unsaved = true;
    const { id: instance, state } = record;
    logger.error("a record could not be written, which is tried again", {
      instance,
      state,
      error: describeError(error),
    });
  }
}

export class Records {
  readonly #entries: ReadonlyMap<string, Entry>;
  readonly #journal: Journal;
  readonly #logger: Logger;
  #restoring: Promise<void> | undefined;
  #lastProblem = "";

  constructor(entries: ReadonlyMap<string, Entry>, journal: Journal, logger: Logger) {
    this.#entries = entries;
    this.#journal = journal;
    this.#logger = logger;
  }

  /** Writes what is not on disk as it should be; call it about once a second. */
  restore(): Promise<void> {
    this.#restoring ??= this.#restore()
      .catch((error: unknown) => this.#complain(describeError(error)))
      .finally(() => {
        this.#restoring = undefined;
      });
    return this.#restoring;
  }

  /** Waits for what is under way. */
  async settle(): Promise<void> {
    await this.#restoring;
  }

  async #restore(): Promise<void> {
    const resting = [...this.#entries.values()].filter(isAtRest);
    const gone = new Set(await this.#journal.missing(resting.map(({ record }) => record.id)));
    // Some may have moved on meanwhile: their steps write for themselves.
    const current = resting.filter((entry) => isAtRest(entry) && this.#entries.has(entry.record.id));
    const missing = current.filter(({ record }) => gone.has(record.id));
    for (const entry of current.filter((one) => one.unsaved || gone.has(one.record.id))) {
      await this.#journal.write(entry.record);
      entry.unsaved = false;
    }
    this.#lastProblem = "";
    if (missing.length > 0) {
      this.#logger.warn("records were gone from the state directory and are written again", {
        instances: missing.map(({ record }) => record.id).join(", "),
      });
    }
  }

  #complain(problem: string): void {
    // Once, not once a second.
    if (problem !== this.#lastProblem) this.#logger.error("records could not be written again", { problem });
    this.#lastProblem = problem;
  }
}

/** Its record is on disk, and no step changes it at the moment. */
function isAtRest({ journaled, step }: Entry): boolean {
  return journaled && step === undefined;
}
