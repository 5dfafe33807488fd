/** What the page knows: every message makes the next state of the one before. Pure. */
import type { PageEvent, PageInstance, PageMessage, PageParts, PageStart } from "../web/messages.ts";

export interface PageState extends PageParts {
  /** When it was so, milliseconds since 1970 by the daemon's clock. */
  at: number;
  instances: ReadonlyMap<string, PageInstance>;
  /** Oldest first, and so below. */
  events: readonly KeyedEvent[];
  starts: readonly PageStart[];
}

export interface KeyedEvent extends PageEvent {
  key: number;
}

const MAX_EVENTS = 100;
const MAX_STARTS = 40;

let lastKey = 0;

export function nextState(before: PageState | undefined, message: PageMessage): PageState | undefined {
  if (message.kind === "all") {
    const { kind: _, instances, events, ...parts } = message;
    return { ...parts, instances: byId(instances), events: keyed(events) };
  }
  // A change of nothing known: the whole picture is on its way.
  if (before === undefined) return undefined;
  const { kind: _, instances: changed, gone, events, starts, ...parts } = message;
  const next = { ...before, ...parts };
  if (changed.length > 0 || gone.length > 0) {
    const instances = new Map([...before.instances, ...byId(changed)]);
    for (const id of gone) instances.delete(id);
    next.instances = instances;
  }
  if (events.length > 0) next.events = [...before.events, ...keyed(events)].slice(-MAX_EVENTS);
  if (starts.length > 0) next.starts = [...before.starts, ...starts].slice(-MAX_STARTS);
  return next;
}

function byId(instances: readonly PageInstance[]): Map<string, PageInstance> {
  return new Map(instances.map((one) => [one.id, one]));
}

function keyed(events: readonly PageEvent[]): KeyedEvent[] {
  return events.map((event) => ({ ...event, key: ++lastKey }));
}
