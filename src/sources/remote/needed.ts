/** Whether a cloud has what machines are made of: told before one is made, and all of it at once. */
import { FleetingdError } from "../../errors.ts";

export interface Needed {
  /** `flavor m1.small` */
  what: string;
  /** The key that names it. */
  key: string;
  /** Where the server's interface has it. */
  path: string;
}

/** @throws FleetingdError INVALID_CONFIG with all that is missing */
export async function refuseMissing<One extends Needed>(
  needed: readonly One[],
  isThere: (one: One) => Promise<boolean>,
): Promise<void> {
  const missing: string[] = [];
  for (const one of needed) if (!(await isThere(one))) missing.push(`there is no ${one.what} (${one.key})`);
  if (missing.length > 0) throw new FleetingdError("INVALID_CONFIG", missing.join("; "));
}
