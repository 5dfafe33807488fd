/** Hands every event to those who listen. */
import type { DaemonEvent, EventSink } from "../events.ts";

export interface EventHub {
  readonly emit: EventSink;
  /** @returns what ends it */
  subscribe(listener: EventSink): () => void;
}

export function createEventHub(): EventHub {
  const listeners = new Set<EventSink>();
  return {
    emit: (event: DaemonEvent) => {
      for (const listener of listeners) listener(event);
    },
    subscribe(listener) {
      listeners.add(listener);
      return () => void listeners.delete(listener);
    },
  };
}
