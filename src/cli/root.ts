import { FleetingdError } from "../errors.ts";

/** @param why completes "… which needs root" @throws FleetingdError PERMISSION */
export function requireRoot(why: string, hint = "Run it with sudo."): void {
  if (process.getuid?.() === 0) return;
  throw new FleetingdError("PERMISSION", `${why}, which needs root`, { hint });
}
