/** The demo's closing table. */

/** In the demo's run directory: what the inside measured, as JSON. */
export const TIMINGS_FILE = "timings.json";

export interface Timing {
  what: string;
  /** Undefined: it was not needed, `remark` says why. */
  ms: number | undefined;
  remark?: string;
}

export function timingsTable(timings: readonly Timing[]): string {
  const width = Math.max(...timings.map(({ what }) => what.length));
  const lines = timings.map(({ what, ms, remark }) =>
    `  ${what.padEnd(width)}  ${(ms === undefined ? "—" : duration(ms)).padStart(9)}${remark === undefined ? "" : `  ${remark}`}`.trimEnd(),
  );
  return ["", "Timings", ...lines, ""].join("\n");
}

function duration(ms: number): string {
  return ms < 1_000 ? `${ms.toFixed(ms < 10 ? 1 : 0)} ms` : `${(ms / 1_000).toFixed(1)} s`;
}
