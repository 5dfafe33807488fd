/** The daemon's metrics as Prometheus reads them. */
import type { EventSink } from "../events.ts";
import { type Distribution, distributionsOf } from "./distributions.ts";
import { createInstruments } from "./instruments.ts";
import { createObserver } from "./observe.ts";
import { applySnapshot, type Snapshot } from "./snapshot.ts";

export interface Metrics {
  /** Counts events. */
  readonly observe: EventSink;
  /** Counts a call of the daemon's interface. */
  observeCall(operation: string, seconds: number, failed: boolean): void;
  /** All of them in Prometheus' text format; reads what is the case now. */
  render(): Promise<string>;
  readonly contentType: string;
  /** How long instances took to be made, and how long those waited that had claimed them, since the daemon's start. */
  distributions(): Promise<{ creation: Distribution[]; claimWait: Distribution[] }>;
}

export function createMetrics(snapshot: () => Promise<Snapshot>): Metrics {
  const { registry, instruments } = createInstruments();
  return {
    observe: createObserver(instruments),
    observeCall(operation, seconds, failed) {
      instruments.calls.inc({ operation });
      if (failed) instruments.callErrors.inc({ operation });
      instruments.callSeconds.observe({ operation }, seconds);
    },
    async render() {
      const now = await snapshot();
      applySnapshot(instruments, now);
      return registry.metrics();
    },
    contentType: registry.contentType,
    distributions: async () => ({
      creation: await distributionsOf(instruments.creationSeconds),
      claimWait: await distributionsOf(instruments.claimWaitSeconds),
    }),
  };
}
