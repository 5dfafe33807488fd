/** How long something took, since the daemon's start. */

import type { Distribution } from "../metrics/distributions.ts";
import { Card } from "./card.tsx";
import { type Bar, barsOf, summaryOf } from "./distribution.ts";
import { duration } from "./time.ts";

interface HistogramProps {
  title: string;
  /** What is measured, the end of a sentence. */
  what: string;
  distributions: readonly Distribution[];
}

const HEIGHT = 96;

export function Histogram({ title, what, distributions }: HistogramProps) {
  const bars = barsOf(distributions);
  const { count, half, most } = summaryOf(distributions);
  const highest = Math.max(1, ...bars.map((bar) => bar.count));
  return (
    <Card id={title.toLowerCase()} title={title}>
      <p class="muted">
        {count === 0
          ? `None since the daemon's start (${what}).`
          : `${count}, ${what}: half of them ${bound(half)}, 95 % ${bound(most)}.`}
      </p>
      {bars.length > 0 && (
        <>
          <svg class="histogram" aria-hidden="true" width="100%" height={HEIGHT}>
            {bars.map((bar, index) => {
              const height = bar.count === 0 ? 0 : Math.max(2, (bar.count / highest) * HEIGHT);
              const width = 100 / bars.length;
              return (
                <rect
                  key={label(bar)}
                  x={`${index * width + width * 0.08}%`}
                  width={`${width * 0.84}%`}
                  y={HEIGHT - height}
                  height={height}
                />
              );
            })}
          </svg>
          <ol class="scale" aria-hidden="true">
            {bars.map((bar) => (
              <li key={label(bar)}>{label(bar)}</li>
            ))}
          </ol>
          <table class="hidden">
            <caption>{title}</caption>
            <tbody>
              {bars.map((bar) => (
                <tr key={label(bar)}>
                  <th scope="row">{label(bar)}</th>
                  <td>{bar.count}</td>
                </tr>
              ))}
            </tbody>
          </table>
        </>
      )}
    </Card>
  );
}

function label({ upTo }: Bar): string {
  return upTo === null ? "longer" : `≤ ${duration(upTo)}`;
}

function bound(seconds: number | null): string {
  return seconds === null ? "longer than any bound" : `within ${duration(seconds)}`;
}
