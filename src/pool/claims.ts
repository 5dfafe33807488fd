/**
 * How a runner's group gets instances: idle ones first, then those that are being made, then new ones.
 *
 * Invariant: a claim counts only when its records are on disk; what could not be written is as it was before.
 */
import { describeError, messageOf } from "../errors.ts";
import type { EventSink } from "../events.ts";
import type { Logger } from "../log.ts";
import type { Source } from "../sources/source.ts";
import type { Driver } from "./driver.ts";
import type { Entries } from "./entries.ts";
import { byAge, type Entry, newEntry } from "./entry.ts";
import { newRecord } from "./instance.ts";
import type { Journal } from "./journal.ts";
import type { PoolSettings } from "./settings.ts";

export interface ClaimsOptions {
  name: string;
  settings(): PoolSettings;
  entries: Entries;
  driver: Driver;
  source: Pick<Source, "rank">;
  journal: Journal;
  logger: Logger;
  events: EventSink;
}

export interface ClaimResult {
  accepted: number;
  /** Why fewer than asked for were accepted, or why new ones have to wait; undefined if neither is so. */
  reason: string | undefined;
}

export class Claims {
  readonly #options: ClaimsOptions;

  constructor(options: ClaimsOptions) {
    this.#options = options;
  }

  /** Gives `group` up to `n` instances: idle ones first, new ones for the rest. Answers at once. */
  async claim(group: string, n: number, now: number): Promise<ClaimResult> {
    const begunAt = performance.now();
    const { name: pool, entries, driver, events } = this.#options;
    const open = entries.open();
    const living = entries.size - open.filter(({ buried }) => buried).length;
    const unclaimed = open.filter(({ buried, record }) => !buried && record.group === undefined).sort(byAge);
    const idle = unclaimed
      .filter(({ record }) => record.state === "ready")
      .sort((a, b) => this.#rank(a) - this.#rank(b) || restOf(a) - restOf(b) || byAge(a, b))
      .slice(0, n);
    // What is being made for the warm stock already is nearer to its end than anything begun now.
    const underway = unclaimed.filter(({ record }) => record.state === "creating").slice(0, n - idle.length);
    const existing = [...idle, ...underway];
    for (const entry of existing) {
      Object.assign(entry.record, { group, claimedAt: now });
      if (!entry.record.resting) continue;
      // What lets it rest has no more sense; nor has the pause before that is tried again.
      entry.step?.abort();
      entry.notBefore = 0;
    }
    const room = driver.isHeld ? 0 : Math.max(0, driver.capacity - living);
    const wanted = n - existing.length;
    const fresh = Array.from({ length: Math.min(wanted, room) }, () =>
      newEntry(newRecord(pool, group, now), false),
    );
    for (const entry of fresh) {
      // Or it would be made though its claim fails.
      entry.isBeingWritten = true;
      entries.set(entry.record.id, entry);
    }

    const written = await this.#writeClaims(existing, fresh);
    driver.wake();
    this.#tellClaimed(
      "warm",
      idle.filter((entry) => restOf(entry) === 0),
    );
    this.#tellClaimed(
      "resting",
      idle.filter((entry) => restOf(entry) === 1),
    );
    this.#tellClaimed("creating", underway);
    this.#tellClaimed("new", fresh);
    const { accepted } = written;
    const seconds = (performance.now() - begunAt) / 1_000;
    events({ kind: "claim", pool, group, asked: n, accepted, seconds });
    if (accepted === n) return { accepted, reason: fresh.length > 0 ? this.#whyHeldBack() : undefined };
    const full = written.error === undefined ? this.#whyFull() : { limit: "record", reason: written.error };
    events({ kind: "rejected", pool, group, rejected: n - accepted, ...full });
    return { accepted, reason: full.reason };
  }

  #whyHeldBack(): string | undefined {
    const { isOpen, retryInMs, lastError } = this.#options.driver.creation;
    if (!isOpen) return undefined;
    return `no instance could be made lately; the next try is in ${Math.ceil(retryInMs / 1000)} s: ${lastError}`;
  }

  #whyFull(): { limit: string; reason: string } {
    const { name, driver, settings } = this.#options;
    if (driver.isHeld)
      return { limit: "drain", reason: `the pool ${name} makes no more instances: it is being drained` };
    const { limit = "source", reason } = driver.shortage ?? {
      limit: "max_instances",
      reason: `the pool ${name} is at its maximum of ${settings().maxInstances} instances (max_instances)`,
    };
    return { limit, reason };
  }

  /** The dearest are given out last. */
  #rank({ record }: Entry): number {
    return this.#options.source.rank?.(record.data) ?? 0;
  }

  #tellClaimed(from: "warm" | "resting" | "creating" | "new", claimed: readonly Entry[]): void {
    const { name: pool, entries, events } = this.#options;
    for (const { record } of claimed) {
      const { id: instance, group } = record;
      // Of those whose record could not be written the claim was taken back, or the instance dropped.
      if (group !== undefined && entries.has(instance))
        events({ kind: "claimed", pool, instance, group, from });
    }
  }

  /** Journals claims; what cannot be written is not accepted and is as before. */
  async #writeClaims(
    existing: Entry[],
    fresh: Entry[],
  ): Promise<{ accepted: number; error: string | undefined }> {
    const { journal, logger } = this.#options;
    let error: string | undefined;
    const results = await Promise.all(
      [...existing, ...fresh].map(async (entry) => {
        try {
          await journal.write(entry.record);
          entry.journaled = true;
          return 1;
        } catch (failure) {
          error = `the record of ${entry.record.id} could not be written: ${describeError(failure)}`;
          logger.error(error, { instance: entry.record.id });
          if (fresh.includes(entry)) await this.#drop(entry);
          else this.#unclaim(entry);
          return 0;
        } finally {
          entry.isBeingWritten = false;
        }
      }),
    );
    return { accepted: results.reduce<number>((sum, one) => sum + one, 0), error };
  }

  #unclaim(entry: Entry): void {
    delete entry.record.group;
    delete entry.record.claimedAt;
    // Nobody knows how far the write has come.
    entry.unsaved = true;
    this.#options.entries.reopen(entry);
  }

  /** Forgets an instance of which nothing was made but perhaps a part of its record. */
  async #drop({ record: { id } }: Entry): Promise<void> {
    const { entries, journal, logger } = this.#options;
    entries.delete(id);
    try {
      await journal.remove(id);
    } catch (error) {
      logger.warn("a folder without a record is left until the next start", {
        instance: id,
        error: messageOf(error),
      });
    }
  }
}

/** Those that are awake are given out first. */
function restOf({ record }: Entry): number {
  return record.resting ? 1 : 0;
}
