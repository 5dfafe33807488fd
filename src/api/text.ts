/** Words and numbers as people read them, in a terminal as on the web page: pure, and without Node. */
import type { InstanceStatus } from "./status.ts";

const UNITS: ReadonlyArray<readonly [unit: string, seconds: number]> = [
  ["d", 86_400],
  ["h", 3_600],
  ["m", 60],
  ["s", 1],
];

/** The two largest units of an age: `3d 4h`, `12s`. */
export function formatAge(seconds: number): string {
  let rest = Math.max(0, Math.floor(seconds));
  const parts: string[] = [];
  for (const [unit, size] of UNITS) {
    const count = Math.floor(rest / size);
    rest -= count * size;
    if (count > 0) parts.push(`${count}${unit}`);
  }
  return parts.length === 0 ? "0s" : parts.slice(0, 2).join(" ");
}

/** A size in the largest unit of which there is one: `512 KiB`, `1.2 GiB`. */
export function formatBytes(bytes: number): string {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  const power = Math.min(units.length - 1, Math.floor(Math.log2(Math.max(1, bytes)) / 10));
  const count = bytes / 1024 ** power;
  return `${power === 0 || count >= 100 ? Math.round(count) : count.toFixed(1)} ${units[power]}`;
}

/** One line without control characters: what came out of a VM must not steer the terminal. */
export function printable(text: string): string {
  return text.replaceAll(/\p{Cc}+/gu, " ");
}

/** Colours and movements (CSI); titles and links (OSC), which end with a bell or a backslash of their own. */
const ESCAPE_SEQUENCE = /(?![\n\r\t])\p{Cc}(?:\[[0-9;?]*[ -/]*[@-~]|\][^\p{Cc}]*\p{Cc}\\?)/gu;

/** They turn the order of what follows around, which is then something else than what is read. */
const DIRECTION_CONTROLS = /[\u202a-\u202e\u2066-\u2069]/g;

/** Text of several lines without what could steer the terminal. */
export function harmless(text: string): string {
  // Whole sequences first, colours among them: what is left of one that was cut is only odd.
  return text
    .replaceAll(ESCAPE_SEQUENCE, "")
    .replaceAll(/(?![\n\t])\p{Cc}/gu, "")
    .replaceAll(DIRECTION_CONTROLS, "");
}

/** What an instance does, in a word or two. */
export function conditionOf({
  state,
  group,
  phases,
  resting,
}: Pick<InstanceStatus, "state" | "group" | "phases" | "resting">): string {
  if (state === "ready" && resting) return group === null ? "warm, paused" : "being woken";
  if (state === "ready") return group === null ? "warm" : "in use";
  return state === "creating" && phases.length > 0 ? `creating: ${phases.at(-1)?.name}` : state;
}
