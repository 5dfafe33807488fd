/** Why the daemon can't be reached, as a sentence for the administrator who reads the runner's log. */
import { stat } from "node:fs/promises";
import { userInfo } from "node:os";
import { dirname } from "node:path";
import { status as Status } from "@grpc/grpc-js";
import { messageOf, systemErrorCode } from "../errors.ts";
import { groupNameOf } from "../host/groups-file.ts";
import { connectUnixSocket } from "../host/unix-socket.ts";
import { StatusError } from "./status-error.ts";

const PROBE_TIMEOUT_MS = 2_000;

/**
 * Connects to the daemon's socket and hangs up.
 * @throws StatusError UNAVAILABLE if nobody answers there (yet), PERMISSION_DENIED, INVALID_ARGUMENT
 */
export async function probeDaemon(socketPath: string): Promise<void> {
  const code = await connectError(socketPath);
  if (code === undefined) return;
  switch (code) {
    case "ENOENT":
    case "ECONNREFUSED":
      throw new StatusError(
        Status.UNAVAILABLE,
        `no fleetingd daemon listens on ${socketPath} (${code}): start it with "systemctl start fleetingd" or ` +
          `"fleetingd serve", or name its socket in plugin_config (socket = "…")`,
      );
    case "EACCES":
    case "EPERM":
      throw new StatusError(Status.PERMISSION_DENIED, await deniedMessage(socketPath));
    case "ENOTSOCK":
    case "ENOTDIR":
    case "EPROTOTYPE":
    case "EINVAL":
      throw new StatusError(
        Status.INVALID_ARGUMENT,
        `${socketPath} is not a socket (${code}): name the fleetingd daemon's in plugin_config (socket = "…")`,
      );
    default:
      throw new StatusError(
        Status.UNAVAILABLE,
        `could not connect to the fleetingd daemon's socket ${socketPath}: ${code}; see "systemctl status fleetingd"`,
      );
  }
}

async function connectError(socketPath: string): Promise<string | undefined> {
  try {
    (await connectUnixSocket(socketPath, PROBE_TIMEOUT_MS)).destroy();
    return undefined;
  } catch (error) {
    return systemErrorCode(error) ?? messageOf(error);
  }
}

async function deniedMessage(socketPath: string): Promise<string> {
  const user = userInfo().username;
  const group = await owningGroup(socketPath);
  if (group === undefined)
    return `the user ${user} may not connect to the fleetingd daemon's socket ${socketPath}`;
  // What the daemon leaves where there is no such group; nobody should become a member of root for it.
  if (group === "root") {
    return (
      `the user ${user} may not connect to the fleetingd daemon's socket ${socketPath}, which is open to root only: make ` +
      `the group that the daemon's socket_group names, restart the daemon, and add ${user} to the group`
    );
  }
  return (
    `the user ${user} may not connect to the fleetingd daemon's socket ${socketPath}, which is open to the group ` +
    `${group}: run "usermod -aG ${group} ${user}" and restart GitLab Runner`
  );
}

/** The group of the socket, or of the nearest folder above it that can be looked at. */
async function owningGroup(path: string): Promise<string | undefined> {
  for (let current = path; ; current = dirname(current)) {
    try {
      return await groupNameOf((await stat(current)).gid);
    } catch (error) {
      // A folder on the way that may not be entered: its own group is the one that is missing.
      if (systemErrorCode(error) !== "EACCES" || dirname(current) === current) return undefined;
    }
  }
}
