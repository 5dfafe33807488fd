/** Runs measurements one after the other. */
import { messageOf } from "../src/errors.ts";
import { type Measurement, type Sample, type Summary, summarize } from "./measurement.ts";
import type { BenchOptions } from "./options.ts";

export interface Outcome {
  summaries: Map<string, Summary>;
  /** One sentence for each measurement that failed. */
  failures: string[];
}

const SAY_EVERY_MS = 1_000;

/** Measures what was asked for; a failure ends only its own measurement. */
export async function runMeasurements(
  measurements: readonly Measurement[],
  options: Pick<BenchOptions, "names" | "runs">,
  say: (line: string) => void,
): Promise<Outcome> {
  const outcome: Outcome = { summaries: new Map(), failures: [] };
  for (const measurement of measurements) {
    const names = measurement.metrics.map(({ name }) => name).filter((name) => options.names.has(name));
    if (names.length === 0) continue;
    const label = names.join(", ");
    try {
      const samples = await collect(measurement, options.runs ?? measurement.runs, (step) =>
        say(`${label}: ${step}`),
      );
      const values = names.map((name) => [name, samples.map((sample) => numberOf(name, sample))] as const);
      for (const [name, numbers] of values) outcome.summaries.set(name, summarize(name, numbers));
    } catch (error) {
      outcome.failures.push(`${label} failed: ${messageOf(error)}`);
      say(`${label}: failed`);
    }
  }
  return outcome;
}

async function collect(
  measurement: Measurement,
  runs: number,
  say: (step: string) => void,
): Promise<Sample[]> {
  say("preparing");
  let saidAt = 0;
  const prepared = await measurement.prepare();
  try {
    for (let count = measurement.warmups ?? 0; count > 0; count--) await prepared.run();
    const samples: Sample[] = [];
    for (let count = 1; count <= runs; count++) {
      // Many are over before they could be read.
      if (performance.now() - saidAt >= SAY_EVERY_MS) {
        say(`run ${count} of ${runs}`);
        saidAt = performance.now();
      }
      samples.push(await prepared.run());
    }
    return samples;
  } finally {
    await prepared.close();
  }
}

function numberOf(name: string, sample: Sample): number {
  const value = sample[name];
  if (value !== undefined && Number.isFinite(value)) return value;
  throw new Error(`a run gave no number for ${name}`);
}
