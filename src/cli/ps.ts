/** `fleetingd ps`: the instances, one a line. */

import { printable } from "../api/text.ts";
import { type CliCommand, EXIT, type ReadOptions } from "./context.ts";
import { renderInstances } from "./instance-table.ts";
import { askForStatus } from "./status.ts";

export interface PsOptions extends ReadOptions {
  pool?: string;
}

export const ps: CliCommand<PsOptions> = async (options, context) => {
  const { instances } = await askForStatus(options);
  const wanted = instances.filter(({ pool }) => options.pool === undefined || pool === options.pool);
  if (options.json === true) context.out(JSON.stringify({ instances: wanted }, null, 2));
  else for (const line of renderInstances(wanted)) context.out(printable(line));
  return EXIT.ok;
};
