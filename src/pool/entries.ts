/**
 * All instances of a pool by id. Those that serve a job take a place, and there is nothing to plan for them: the others are
 * known apart, so that thousands of jobs make no plan slower.
 *
 * Invariant: whoever does not serve a job is open. One that begins to is found out by itself; when it ends, `reopen` must
 * be called.
 */
import type { Entry } from "./entry.ts";

export class Entries extends Map<string, Entry> {
  readonly #open = new Set<Entry>();

  override set(id: string, entry: Entry): this {
    this.#open.add(entry);
    return super.set(id, entry);
  }

  override delete(id: string): boolean {
    const entry = this.get(id);
    if (entry !== undefined) this.#open.delete(entry);
    return super.delete(id);
  }

  /** For one that serves no job any more. */
  reopen(entry: Entry): void {
    if (this.get(entry.record.id) === entry) this.#open.add(entry);
  }

  /** Those that serve no job, in the order in which they came. */
  open(): Entry[] {
    for (const entry of this.#open) if (isServing(entry)) this.#open.delete(entry);
    return [...this.#open];
  }
}

function isServing({ record }: Entry): boolean {
  return record.state === "ready" && record.group !== undefined && record.resting !== true;
}
