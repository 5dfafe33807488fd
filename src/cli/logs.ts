/** `fleetingd logs`: the daemon's newest log lines, of one VM or all, also where there is no journal. */

import { printable } from "../api/text.ts";
import type { LogEntry } from "../log.ts";
import { type CliCommand, EXIT } from "./context.ts";
import { type FollowOptions, readStream } from "./follow.ts";
import { formatClock } from "./format.ts";

export interface LogsOptions extends FollowOptions {
  instance?: string | undefined;
}

export const logs: CliCommand<LogsOptions> = async (options, context) => {
  await readStream(options, "logs", options.instance, (json) => {
    if (options.json === true) context.out(json);
    else context.out(renderLine(JSON.parse(json) as LogEntry));
  });
  return EXIT.ok;
};

function renderLine({ time, level, message, fields }: LogEntry): string {
  const shown = Object.entries(fields).map(([key, value]) => `${key}=${JSON.stringify(value)}`);
  return printable([formatClock(time), level.padEnd(5), message, ...shown].join(" "));
}
