/** The file of a unix socket whose server was killed. */
import { lstat } from "node:fs/promises";
import { FleetingdError, systemErrorCode } from "../errors.ts";
import { connectUnixSocket } from "./unix-socket.ts";

const PROBE_TIMEOUT_MS = 5_000;

/**
 * Whether there is a socket that nobody listens on. Asked first of all at start: a second daemon must not touch the VMs.
 * @param key what its place is called in the configuration
 * @throws FleetingdError ALREADY_EXISTS if a daemon listens there, or if it is no socket
 */
export async function isLeftOver(path: string, key = "daemon.socket"): Promise<boolean> {
  try {
    const stats = await lstat(path);
    if (!stats.isSocket()) {
      throw new FleetingdError("ALREADY_EXISTS", `${path} exists and is not a socket`, {
        hint: `Remove it, or set ${key} to another path.`,
      });
    }
  } catch (error) {
    if (systemErrorCode(error) === "ENOENT") return false;
    throw error;
  }
  if (await somebodyListens(path)) {
    throw new FleetingdError("ALREADY_EXISTS", `another daemon is listening on ${path}`, {
      hint: "Stop it first, or give this one a socket and a state directory of its own.",
    });
  }
  return true;
}

async function somebodyListens(path: string): Promise<boolean> {
  try {
    (await connectUnixSocket(path, PROBE_TIMEOUT_MS)).destroy();
    return true;
  } catch (error) {
    // Whoever is too busy to answer is there all the same.
    return error instanceof FleetingdError && error.code === "TIMEOUT";
  }
}
