/** The daemon's metrics as Prometheus reads them. */
import type { Registry } from "prom-client";
import type { EventSink } from "../events.ts";
import { type Distribution, distributionsOf } from "./distributions.ts";
import { createInstruments, type Definition } from "./instruments.ts";
import { createObserver } from "./observe.ts";
import { applySnapshot, type Snapshot } from "./snapshot.ts";

/** What prom-client has, and does not say of histograms. */
interface Sample {
  labels: Readonly<Record<string, string | number>>;
  value: number;
  metricName?: string;
}

const PARTS = ["bucket", "sum", "count"] as const;

/** All samples of one metric. */
export interface MetricFamily {
  name: string;
  kind: "counter" | "gauge" | "histogram";
  help: string;
  values: {
    /** Of a histogram: which of its numbers this is; a bucket also counts what those before it do, up to the label `le`. */
    part: "bucket" | "sum" | "count" | undefined;
    labels: Record<string, string>;
    value: number;
  }[];
}

export interface Metrics {
  /** Counts events. */
  readonly observe: EventSink;
  /** Counts a call of the daemon's interface. */
  observeCall(operation: string, seconds: number, failed: boolean): void;
  /** All of them in Prometheus' text format; reads what is the case now. */
  render(): Promise<string>;
  readonly contentType: string;
  /** The same as plain data. */
  collect(): Promise<MetricFamily[]>;
  /** How long instances took to be made, and how long those waited that had claimed them, since the daemon's start. */
  distributions(): Promise<{ creation: Distribution[]; claimWait: Distribution[] }>;
}

export function createMetrics(snapshot: () => Promise<Snapshot>): Metrics {
  const { registry, instruments, definitions } = createInstruments();
  const look = async (): Promise<void> => applySnapshot(instruments, await snapshot());
  return {
    observe: createObserver(instruments),
    observeCall(operation, seconds, failed) {
      instruments.calls.inc({ operation });
      if (failed) instruments.callErrors.inc({ operation });
      instruments.callSeconds.observe({ operation }, seconds);
    },
    async render() {
      await look();
      return registry.metrics();
    },
    async collect() {
      await look();
      return Promise.all(definitions.map((definition) => familyOf(registry, definition)));
    },
    contentType: registry.contentType,
    distributions: async () => ({
      creation: await distributionsOf(instruments.creationSeconds),
      claimWait: await distributionsOf(instruments.claimWaitSeconds),
    }),
  };
}

async function familyOf(registry: Registry, { name, kind, help }: Definition): Promise<MetricFamily> {
  const { values = [] } = (await registry.getSingleMetric(name)?.get()) ?? {};
  return {
    ...{ name, kind, help },
    values: (values as readonly Sample[]).map(({ labels, value, metricName }) => ({
      part: PARTS.find((part) => metricName === `${name}_${part}`),
      labels: Object.fromEntries(Object.entries(labels).map(([label, one]) => [label, String(one)])),
      value,
    })),
  };
}
