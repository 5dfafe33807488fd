/**
 * What a group's file exports: its measurements.
 *
 * One measurement may give several numbers, each under a name whose last part is its unit (`clone.create.ms`); a number may follow it. It is
 * prepared once, run several times, and closed, whatever happened; nothing of it is left then.
 */
export interface Measurement {
  readonly metrics: readonly Metric[];
  /** How often it is run unless the command line says otherwise. */
  readonly runs: number;
  /** Runs before those that count, where files and code are read for the first time. Default 0. */
  readonly warmups?: number;
  prepare(): Promise<Prepared>;
}

export interface Metric {
  readonly name: string;
  /** Several: all of them. */
  readonly goal?: Goal | readonly Goal[];
}

/** What the median has to be at most, on two emulated cores. */
export interface Goal {
  readonly atMost: number;
  /** `atMost` is that many times the median of the metric of this name. */
  readonly of?: string;
}

export interface Prepared {
  /** One run: a number for each of the metrics. */
  run(): Promise<Sample>;
  close(): Promise<void>;
}

export type Sample = Readonly<Record<string, number>>;

export interface Summary {
  median: number;
  min: number;
  max: number;
  runs: number;
  unit: string;
}

/** The last part of a metric's name that is not a number. */
export function unitOf(name: string): string {
  return name.split(".").findLast((part) => !/^\d+$/.test(part)) ?? "";
}

export function summarize(name: string, values: readonly number[]): Summary {
  const sorted = values.toSorted((a, b) => a - b);
  const at = (index: number): number => sorted[index] ?? Number.NaN;
  const middle = sorted.length / 2;
  const median = Number.isInteger(middle) ? (at(middle - 1) + at(middle)) / 2 : at(Math.floor(middle));
  return { median, min: at(0), max: at(sorted.length - 1), runs: sorted.length, unit: unitOf(name) };
}
