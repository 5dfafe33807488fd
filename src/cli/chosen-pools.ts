/** The pools of the configuration that a command is about. */
import type { Config, PoolConfig } from "../config/types.ts";
import { FleetingdError } from "../errors.ts";

/**
 * @param wanted a pool's name; undefined: every pool
 * @throws FleetingdError NOT_FOUND if there is none
 */
export function chosenPools(
  pools: Config["pools"],
  wanted: string | undefined,
): [name: string, pool: PoolConfig][] {
  const chosen = Object.entries(pools).filter(([name]) => wanted === undefined || name === wanted);
  if (chosen.length > 0) return chosen;
  const what =
    wanted === undefined ? "the configuration has no pool" : `the configuration has no pool ${wanted}`;
  throw new FleetingdError("NOT_FOUND", what, { hint: "Add a [pools.<name>] to it." });
}
