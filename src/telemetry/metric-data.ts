/** Prometheus' metrics as OpenTelemetry has them: the same names, labels, values and buckets. */
import { type HrTime, ValueType } from "@opentelemetry/api";
import type { InstrumentationScope } from "@opentelemetry/core";
import { emptyResource } from "@opentelemetry/resources";
import {
  AggregationTemporality,
  type CollectionResult,
  type DataPoint,
  DataPointType,
  type Histogram,
  type MetricData,
} from "@opentelemetry/sdk-metrics";
import type { MetricFamily } from "../metrics/metrics.ts";

type Sample = MetricFamily["values"][number];

/**
 * @param startedAt when counters began, in milliseconds since 1970
 * @param now in the same unit
 */
export function metricData(family: MetricFamily, startedAt: number, now: number): MetricData {
  const { name, help, kind, values } = family;
  const times = { startTime: hrTime(startedAt), endTime: hrTime(now) };
  const common = {
    descriptor: { name, description: help, unit: "", valueType: ValueType.DOUBLE },
    aggregationTemporality: AggregationTemporality.CUMULATIVE,
  };
  if (kind === "histogram")
    return { ...common, dataPointType: DataPointType.HISTOGRAM, dataPoints: histograms(values, times) };
  const dataPoints = values.map(({ labels, value }) => ({ ...times, attributes: labels, value }));
  if (kind === "gauge") return { ...common, dataPointType: DataPointType.GAUGE, dataPoints };
  return { ...common, dataPointType: DataPointType.SUM, isMonotonic: true, dataPoints };
}

export function collectionOf(metrics: MetricData[], scope: InstrumentationScope): CollectionResult {
  return { resourceMetrics: { resource: emptyResource(), scopeMetrics: [{ scope, metrics }] }, errors: [] };
}

/** Prometheus counts in each bucket what the ones before it have as well. */
function histograms(
  values: readonly Sample[],
  times: Pick<DataPoint<Histogram>, "startTime" | "endTime">,
): DataPoint<Histogram>[] {
  const points = new Map<string, DataPoint<Histogram>>();
  for (const { part, labels: all, value } of values) {
    const { le, ...labels } = all;
    const id = JSON.stringify(labels);
    const empty: Histogram = { buckets: { boundaries: [], counts: [] }, sum: 0, count: 0 };
    const point = points.get(id) ?? { ...times, attributes: labels, value: empty };
    points.set(id, point);
    const { buckets } = point.value;
    if (part === "sum") point.value.sum = value;
    else if (part === "count") point.value.count = value;
    else {
      buckets.counts.push(value - buckets.counts.reduce((sum, count) => sum + count, 0));
      if (le !== "+Inf") buckets.boundaries.push(Number(le));
    }
  }
  return [...points.values()];
}

function hrTime(ms: number): HrTime {
  const seconds = Math.floor(ms / 1_000);
  return [seconds, Math.round((ms - seconds * 1_000) * 1_000_000)];
}
