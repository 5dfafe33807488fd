/** What the benchmarks print and write. */
import { formatTable } from "../src/cli/format.ts";
import type { Goal, Metric, Summary } from "./measurement.ts";

/** By name. */
export type Summaries = ReadonlyMap<string, Summary>;

const HEADINGS = ["name", "median", "min", "max", "runs", "unit", "goal", "met"];

/** One line for each metric that was measured, in the order of `metrics`. */
export function reportTable(metrics: readonly Metric[], summaries: Summaries): string[] {
  const rows = metrics.flatMap(({ name, goal }) => {
    const summary = summaries.get(name);
    if (summary === undefined) return [];
    const { median, min, max, runs, unit } = summary;
    const numbers = [median, min, max].map(formatNumber);
    return [
      [
        name,
        ...numbers,
        String(runs),
        unit,
        ...goalCells(median, goal === undefined ? [] : [goal].flat(), summaries),
      ],
    ];
  });
  return formatTable(HEADINGS, alignNumbers(rows));
}

/** The numbers as JSON, by name. */
export function reportJson(summaries: Summaries): string {
  const rounded = [...summaries].map(([name, { median, min, max, runs, unit }]) => {
    const [a, b, c] = [median, min, max].map((value) => Number(value.toFixed(3)));
    return [name, { median: a, min: b, max: c, runs, unit }] as const;
  });
  return `${JSON.stringify(Object.fromEntries(rounded), null, 2)}\n`;
}

/** Of several goals all have to be met. */
function goalCells(median: number, goals: readonly Goal[], summaries: Summaries): [string, string] {
  const cells = goals.map((goal) => goalCell(median, goal, summaries));
  const met = ["NO", "?", "yes"].find((answer) => cells.some(([, one]) => one === answer)) ?? "";
  return [cells.map(([text]) => text).join(", "), met];
}

function goalCell(median: number, { atMost, of }: Goal, summaries: Summaries): [string, string] {
  if (of === undefined) return [`≤ ${atMost}`, median <= atMost ? "yes" : "NO"];
  const whole = summaries.get(of);
  if (whole === undefined) return [`≤ ${formatShare(atMost)} × ${of}`, "?"];
  const bound = atMost * whole.median;
  return [`≤ ${formatShare(atMost)} × ${of} = ${formatNumber(bound)}`, median <= bound ? "yes" : "NO"];
}

/** A sixth is no decimal number. */
function formatShare(share: number): string {
  const decimal = String(share);
  return decimal.length > 6 ? `1/${Math.round(1 / share)}` : decimal;
}

/** Three digits that count. */
function formatNumber(value: number): string {
  if (value >= 100) return value.toFixed(0);
  return value.toFixed(value >= 10 ? 1 : 2);
}

/** The columns of numbers end at the same place. */
function alignNumbers(rows: readonly string[][]): string[][] {
  const widthOf = (column: number): number => Math.max(...rows.map((row) => row[column]?.length ?? 0));
  return rows.map((row) =>
    row.map((cell, column) => (column >= 1 && column <= 4 ? cell.padStart(widthOf(column)) : cell)),
  );
}
