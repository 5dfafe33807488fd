/** `fleetingd events`: what has happened lately, and what happens. */
import type { LoggedEvent } from "../api/events.ts";
import { printable } from "../api/text.ts";
import { type CliCommand, EXIT } from "./context.ts";
import { type FollowOptions, readStream } from "./follow.ts";
import { formatClock } from "./format.ts";

export interface EventsOptions extends FollowOptions {
  instance?: string | undefined;
}

export const events: CliCommand<EventsOptions> = async (options, context) => {
  await readStream(options, "events", options.instance, (json) => {
    if (options.json === true) context.out(json);
    else context.out(printable(renderEvent(JSON.parse(json) as LoggedEvent)));
  });
  return EXIT.ok;
};

/** Time, kind, whom it is about, and everything else that is known. */
export function renderEvent({ time, kind, ...more }: LoggedEvent): string {
  const fields = Object.entries(more).flatMap(([key, value]) => {
    if (key === "pool" && "instance" in more) return [];
    if (key === "instance") return [`${value}`];
    if (typeof value === "number") return [`${key}=${Number(value.toFixed(3))}`];
    return [
      `${key}=${typeof value === "string" && /^[\w./#-]+$/.test(value) ? value : JSON.stringify(value)}`,
    ];
  });
  return [formatClock(time), kind.padEnd(12), ...fields].join("  ");
}
