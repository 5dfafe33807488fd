/** `fleetingd why`: one sentence a pool on why it is not at its desired size, or that it is. */
import type { PoolStatus } from "../api/status.ts";
import { printable } from "../api/text.ts";
import { FleetingdError } from "../errors.ts";
import { type CliCommand, EXIT, type ReadOptions } from "./context.ts";
import { askForStatus } from "./status.ts";

export interface WhyOptions extends ReadOptions {
  pool?: string | undefined;
}

export const why: CliCommand<WhyOptions> = async (options, context) => {
  const { pools } = await askForStatus(options);
  const wanted = pools.filter(({ name }) => options.pool === undefined || name === options.pool);
  if (wanted.length === 0 && options.pool !== undefined) {
    throw new FleetingdError("NOT_FOUND", `there is no pool ${options.pool}.`, {
      hint: `The pools are: ${pools.map(({ name }) => name).join(", ") || "none"}.`,
    });
  }
  const answers = wanted.map(({ name, warm, why: reason }) => ({ pool: name, warm, why: reason }));
  if (options.json === true) context.out(JSON.stringify({ pools: answers }, null, 2));
  else if (answers.length === 0) context.out("There are no pools.");
  else for (const pool of wanted) context.out(printable(renderWhy(pool)));
  return EXIT.ok;
};

export function renderWhy({ name, warm, why: reason }: Pick<PoolStatus, "name" | "warm" | "why">): string {
  const size = `${name}: ${warm.actual} of ${warm.desired} warm VMs are ready`;
  return reason === null ? `${size}, as it should be.` : `${size}, because ${reason}`;
}
