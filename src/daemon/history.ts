/**
 * What has happened lately, in memory: events and log lines, the newest of all, and those of each instance for as long as
 * there is room, also when it is gone.
 *
 * Bounded: `MAX_ENTRIES` in all, `MAX_PER_INSTANCE` of an instance (the first and the newest stay), `MAX_INSTANCES` instances.
 */
import type { LoggedEvent } from "../api/events.ts";
import type { LogEntry } from "../log.ts";
import type { EventHub } from "./event-hub.ts";

const MAX_ENTRIES = 4_000;
const MAX_INSTANCES = 1_000;
const MAX_PER_INSTANCE = 64;
/** How many of the first ones stay when there are too many: they say how it began. */
const KEPT_FIRST = 16;

export class History<Entry extends object> {
  readonly #instanceOf: (entry: Entry) => string | undefined;
  readonly #all: Entry[] = [];
  /** The instance that was heard of longest ago comes first. */
  readonly #byInstance = new Map<string, Entry[]>();
  readonly #followers = new Set<(entry: Entry) => void>();

  /** @param instanceOf the instance that an entry is about, if it is about one */
  constructor(instanceOf: (entry: Entry) => string | undefined) {
    this.#instanceOf = instanceOf;
  }

  add(entry: Entry): void {
    this.#all.push(entry);
    if (this.#all.length > MAX_ENTRIES) this.#all.shift();
    const instance = this.#instanceOf(entry);
    if (instance !== undefined) this.#addToInstance(instance, entry);
    for (const follower of this.#followers) follower(entry);
  }

  /** Oldest first; of one instance, or all. */
  list(instance?: string): readonly Entry[] {
    return instance === undefined ? this.#all : (this.#byInstance.get(instance) ?? []);
  }

  /** @returns what ends it */
  follow(instance: string | undefined, follower: (entry: Entry) => void): () => void {
    const chosen = (entry: Entry): void => {
      if (instance === undefined || this.#instanceOf(entry) === instance) follower(entry);
    };
    this.#followers.add(chosen);
    return () => void this.#followers.delete(chosen);
  }

  #addToInstance(instance: string, entry: Entry): void {
    const entries = this.#byInstance.get(instance) ?? [];
    entries.push(entry);
    if (entries.length > MAX_PER_INSTANCE) entries.splice(KEPT_FIRST, 1);
    this.#byInstance.delete(instance);
    this.#byInstance.set(instance, entries);
    const [oldest] = this.#byInstance.keys();
    if (this.#byInstance.size > MAX_INSTANCES && oldest !== undefined) this.#byInstance.delete(oldest);
  }
}

/** Of everything that the hub tells from now on. */
export function createEventHistory(hub: EventHub): History<LoggedEvent> {
  const history = new History<LoggedEvent>((event) => ("instance" in event ? event.instance : undefined));
  hub.subscribe((event) => history.add({ time: new Date().toISOString(), ...event }));
  return history;
}

export function createLogHistory(): History<LogEntry> {
  return new History(({ fields: { instance } }) => (typeof instance === "string" ? instance : undefined));
}
