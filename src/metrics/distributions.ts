/** Histograms as plain data, for whoever draws them. */
import type { Histogram } from "prom-client";

export interface Distribution {
  pool: string;
  /** How many lie in each bucket alone, in the order of their upper bounds in seconds; the last one has none. */
  buckets: { upTo: number | null; count: number }[];
  count: number;
}

interface Value {
  labels: { pool?: string | number; le?: string | number };
  metricName?: string;
  value: number;
}

/** Of a histogram whose only label is the pool. */
export async function distributionsOf(histogram: Histogram<"pool">): Promise<Distribution[]> {
  const pools = new Map<string, Distribution>();
  for (const { labels, metricName = "", value } of (await histogram.get()).values as readonly Value[]) {
    const pool = String(labels.pool);
    const found = pools.get(pool) ?? { pool, buckets: [], count: 0 };
    pools.set(pool, found);
    if (metricName.endsWith("_sum")) continue;
    if (metricName.endsWith("_count")) found.count = value;
    else {
      const below = found.buckets.reduce((sum, bucket) => sum + bucket.count, 0);
      found.buckets.push({ upTo: labels.le === "+Inf" ? null : Number(labels.le), count: value - below });
    }
  }
  return [...pools.values()];
}
