/** Histograms of all pools together, and what they say in a few words: pure. */
import type { Distribution } from "../metrics/distributions.ts";

export interface Bar {
  /** Seconds; null: more than the bound before. */
  upTo: number | null;
  count: number;
}

export interface Summary {
  count: number;
  /** Half of them, and 95 of 100, took at most so many seconds; null: more than the last bound. */
  half: number | null;
  most: number | null;
}

/** From the first bucket that has one to the last, so that there is something to see. */
export function barsOf(distributions: readonly Distribution[]): Bar[] {
  const bars = added(distributions);
  const first = bars.findIndex(({ count }) => count > 0);
  const last = bars.findLastIndex(({ count }) => count > 0);
  return first < 0 ? [] : bars.slice(Math.max(0, first - 1), last + 2);
}

export function summaryOf(distributions: readonly Distribution[]): Summary {
  const bars = added(distributions);
  const count = distributions.reduce((sum, one) => sum + one.count, 0);
  return {
    count,
    half: boundOf(bars, count * 0.5),
    most: boundOf(bars, count * 0.95),
  };
}

function added(distributions: readonly Distribution[]): Bar[] {
  const bars: Bar[] = [];
  for (const { buckets } of distributions) {
    for (const [index, { upTo, count }] of buckets.entries())
      bars[index] = { upTo, count: (bars[index]?.count ?? 0) + count };
  }
  return bars;
}

function boundOf(bars: readonly Bar[], wanted: number): number | null {
  let below = 0;
  for (const { upTo, count } of bars) {
    below += count;
    if (below >= wanted) return upTo;
  }
  return null;
}
