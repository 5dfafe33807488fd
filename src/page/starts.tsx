/** The last starts, newest first, each with what its phases took. */

import type { PageStart } from "../web/messages.ts";
import { Card } from "./card.tsx";
import type { PageState } from "./state.ts";
import { clock, duration } from "./time.ts";

const SHOWN = 14;
/** Others share the last colour. */
const PHASES = ["image", "clone", "boot", "resume", "ready", "login"];

interface Line extends Omit<PageStart, "time"> {
  time: string | undefined;
}

export function Starts({ state, onChoose }: { state: PageState; onChoose(id: string): void }) {
  const lines = [...underWay(state), ...state.starts.toReversed()].slice(0, SHOWN);
  const longest = Math.max(0.001, ...lines.map(({ seconds }) => seconds));
  const used = new Set(lines.flatMap(({ phases }) => (phases ?? []).map(({ name }) => name)));
  const names = [...used].sort((a, b) => PHASES.indexOf(a) - PHASES.indexOf(b));
  return (
    <Card id="starts" title="Starts">
      {lines.length === 0 && <p class="muted">No VM was started since the daemon was.</p>}
      <ul class="legend">
        {names.map((name) => (
          <li key={name} class={phaseClass(name)}>
            {name}
          </li>
        ))}
      </ul>
      <ol class="starts">
        {lines.map((line) => (
          <li key={line.instance} class={line.failedIn === null ? undefined : "failed"}>
            <span class="muted">{line.time === undefined ? "now" : clock(line.time)}</span>
            <button type="button" class="vm" onClick={() => onChoose(line.instance)}>
              {line.instance}
            </button>
            <Phases line={line} longest={longest} />
            <span class="took">
              {duration(line.seconds)}
              {line.time === undefined && " …"}
            </span>
            <span class="hidden">{inWords(line)}</span>
          </li>
        ))}
      </ol>
    </Card>
  );
}

function underWay({ instances }: PageState): Line[] {
  return [...instances.values()]
    .filter(({ state, phases }) => state === "creating" && phases.length > 0)
    .map(({ id, pool, phases }) => {
      const seconds = phases.reduce((sum, phase) => sum + phase.seconds, 0);
      return { instance: id, pool, time: undefined, seconds, phases, failedIn: null };
    });
}

function Phases({ line, longest }: { line: Line; longest: number }) {
  const percent = (seconds: number): string => `${((seconds / longest) * 100).toFixed(2)}%`;
  let before = 0;
  const bars = (line.phases ?? [{ name: "failed", seconds: line.seconds }]).map((phase, index) => {
    const x = before;
    before += phase.seconds;
    const key = `${index} ${phase.name}`;
    return (
      <rect
        key={key}
        class={phaseClass(phase.name)}
        x={percent(x)}
        width={percent(phase.seconds)}
        height="10"
      />
    );
  });
  return (
    <svg class="phases" aria-hidden="true" width="100%" height="10">
      {bars}
    </svg>
  );
}

function phaseClass(name: string): string {
  if (name === "failed") return "failed";
  const index = PHASES.indexOf(name);
  return `phase-${index < 0 ? PHASES.length : index}`;
}

function inWords({ phases, failedIn }: Line): string {
  if (failedIn !== null) return `failed in the phase ${failedIn}`;
  return (phases ?? []).map(({ name, seconds }) => `${name} ${duration(seconds)}`).join(", ");
}
