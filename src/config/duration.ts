/** Durations as people write them: `2m30s`, `1h`, `500ms`. */

const UNITS: ReadonlyArray<readonly [unit: string, ms: number]> = [
  ["h", 3_600_000],
  ["m", 60_000],
  ["s", 1_000],
  ["ms", 1],
];
const PATTERN = /^(?:(\d{1,9})h)?(?:(\d{1,9})m)?(?:(\d{1,9})s)?(?:(\d{1,9})ms)?$/;

/** Milliseconds, of a text with units or a whole number of seconds; undefined if it is neither. */
export function parseDuration(value: unknown): number | undefined {
  if (typeof value === "number") return Number.isSafeInteger(value) && value >= 0 ? value * 1000 : undefined;
  if (typeof value !== "string" || value === "") return undefined;
  const match = PATTERN.exec(value);
  if (match === null) return undefined;
  return UNITS.reduce((sum, [, ms], index) => sum + Number(match[index + 1] ?? 0) * ms, 0);
}

/** The shortest text that `parseDuration` reads back: 150000 is `2m30s`. */
export function formatDuration(ms: number): string {
  let rest = ms;
  let text = "";
  for (const [unit, size] of UNITS) {
    const count = Math.floor(rest / size);
    rest -= count * size;
    if (count > 0) text += `${count}${unit}`;
  }
  return text === "" ? "0s" : text;
}
