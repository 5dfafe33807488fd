/** One sentence for a full disk, whoever ran into it. */
import { FleetingdError, messageOf, systemErrorCode } from "../errors.ts";

/** EXHAUSTED if `error` means that there is no room left where `what` was to be written; any other error as it is. */
export function explainDiskFull(error: unknown, what: string, directory: string): unknown {
  const code = systemErrorCode(error);
  const full =
    code === "ENOSPC" ||
    code === "EDQUOT" ||
    (error instanceof FleetingdError &&
      error.code === "COMMAND_FAILED" &&
      /No space left on device|Disk quota exceeded/.test(messageOf(error)));
  return full ? diskFull(what, directory, error) : error;
}

/** @param what completes "no room for …" */
export function diskFull(what: string, directory: string, cause?: unknown): FleetingdError {
  return new FleetingdError("EXHAUSTED", `the disk is full: no room for ${what} in ${directory}`, {
    hint: "Free some space there, or choose another disk directory.",
    cause,
  });
}
