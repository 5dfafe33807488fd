/** `fleetingd explain`: the life of one VM, also of one that is gone as long as the daemon remembers it. */
import type { LoggedEvent, Timeline } from "../api/events.ts";
import { printable } from "../api/text.ts";
import { timelineOf } from "../api/timeline.ts";
import { FleetingdError } from "../errors.ts";
import { type CliCommand, EXIT, type ReadOptions } from "./context.ts";
import { readStream } from "./follow.ts";
import { formatClock, formatTable } from "./format.ts";

export interface ExplainOptions extends ReadOptions {
  instance: string;
}

export const explain: CliCommand<ExplainOptions> = async (options, context) => {
  const events: LoggedEvent[] = [];
  await readStream({ ...options, follow: false }, "events", options.instance, (json) => {
    events.push(JSON.parse(json) as LoggedEvent);
  });
  const timeline = timelineOf(options.instance, events, new Date());
  if (timeline === undefined) {
    throw new FleetingdError("NOT_FOUND", `nothing is known of an instance ${options.instance}.`, {
      hint: "`fleetingd ps` lists those that there are; the daemon remembers the last ones that are gone until it is restarted.",
    });
  }
  if (options.json === true) context.out(JSON.stringify(timeline, null, 2));
  else for (const line of renderTimeline(timeline)) context.out(line);
  return EXIT.ok;
};

export function renderTimeline({ instance, pool, group, outcome, steps }: Timeline): string[] {
  const rows = steps.map(({ time, seconds, what, isProblem }) => [
    isProblem ? "!" : "",
    formatClock(time),
    seconds === null ? "" : `${seconds.toFixed(1)} s`,
    printable(what),
  ]);
  return [
    `${instance} of the pool ${pool}${group === null ? "" : `, claimed by ${group}`}`,
    printable(outcome),
    "",
    ...formatTable(["", "TIME", "TOOK", "WHAT"], rows),
  ];
}
