/**
 * What is on disk follows what is in memory, also where a write has failed or somebody has removed the folder: an instance that
 * is up serves its job all the same, and its record is written as soon as that is possible.
 */
import { describeError, systemErrorCode } from "../errors.ts";
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

/** To look for folders that were removed costs more than to know what is unsaved, and hardly ever finds one. */
const CALLS_PER_LOOK = 5;

export class Records {
  readonly #entries: ReadonlyMap<string, Entry>;
  readonly #journal: Journal;
  readonly #logger: Logger;
  #restoring: Promise<void> | undefined;
  #calls = 0;
  #lastProblem = "";

  constructor(entries: ReadonlyMap<string, Entry>, journal: Journal, logger: Logger) {
    this.#entries = entries;
    this.#journal = journal;
    this.#logger = logger;
  }

  /** Writes what is not on disk as it should be; call it about once a second. */
  restore(): Promise<void> {
    this.#restoring ??= this.#restore(this.#calls++ % CALLS_PER_LOOK === 0)
      .catch((error: unknown) => this.#complain(error))
      .finally(() => {
        this.#restoring = undefined;
      });
    return this.#restoring;
  }

  /** Waits for what is under way. */
  async settle(): Promise<void> {
    await this.#restoring;
  }

  async #restore(looksForGone: boolean): Promise<void> {
    const missing = looksForGone ? await this.#missing() : [];
    const unsaved = [...this.#entries.values()].filter((entry) => entry.unsaved);
    for (const entry of new Set([...missing, ...unsaved])) {
      // Some may have moved on meanwhile: their steps write for themselves.
      if (!isAtRest(entry) || !this.#entries.has(entry.record.id)) continue;
      await this.#journal.write(entry.record);
      entry.unsaved = false;
    }
    if (looksForGone) this.#lastProblem = "";
    if (missing.length > 0) {
      this.#logger.warn("records were gone from the state directory and are written again", {
        instances: missing.map(({ record }) => record.id).join(", "),
      });
    }
  }

  async #missing(): Promise<Entry[]> {
    const resting = [...this.#entries.values()].filter(isAtRest);
    const gone = new Set(await this.#journal.missing(resting.map(({ record }) => record.id)));
    return resting.filter(({ record }) => gone.has(record.id));
  }

  #complain(error: unknown): void {
    // Once, not once a second; the name of the temporary file is another one each time.
    const kind = systemErrorCode(error) ?? describeError(error);
    if (kind !== this.#lastProblem)
      this.#logger.error("records could not be written again", { problem: describeError(error) });
    this.#lastProblem = kind;
  }
}

/** Its record is on disk, and no step changes it at the moment. */
function isAtRest({ journaled, step }: Entry): boolean {
  return journaled && step === undefined;
}
