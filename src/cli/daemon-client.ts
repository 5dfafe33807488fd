/** The way to the daemon: its unix socket, and what is wrong when there is no way. */
import { stat } from "node:fs/promises";
import { userInfo } from "node:os";
import { resolve } from "node:path";
import { credentials, status as Status } from "@grpc/grpc-js";
import { type ErrorCode, FleetingdError, messageOf, systemErrorCode } from "../errors.ts";
import { DaemonClient } from "../gen/fleetingd.ts";
import { groupNameOf } from "../host/groups-file.ts";
import { connectUnixSocket } from "../host/unix-socket.ts";
import { type GlobalOptions, NoDaemonError } from "./context.ts";

const CONNECT_TIMEOUT_MS = 5_000;
const START_HINT =
  "Start it with `systemctl start fleetingd` (or `fleetingd serve`, as root); --socket names another place.";

/**
 * Calls `work` with a client that is closed afterwards.
 * @throws NoDaemonError if nothing listens there, or we may not use it.
 */
export async function withDaemon<T>(
  options: GlobalOptions,
  work: (client: DaemonClient) => Promise<T>,
): Promise<T> {
  const path = await socketPathOf(options);
  await probe(path);
  const client = new DaemonClient(`unix:${path}`, credentials.createInsecure(), {
    "grpc.max_receive_message_length": -1,
    "grpc.enable_http_proxy": 0,
  });
  try {
    return await work(client);
  } finally {
    client.close();
  }
}

/** What a failed call means to the user; the daemon's own sentence where it has sent one. */
export function callError(error: unknown, timeoutMs: number): FleetingdError {
  const isService = error instanceof Error && "code" in error && "details" in error;
  const status = isService && typeof error.code === "number" ? error.code : undefined;
  if (status === Status.DEADLINE_EXCEEDED) {
    return new FleetingdError("TIMEOUT", `the daemon did not answer within ${timeoutMs / 1000} s.`, {
      hint: "Its log says what it is doing: `journalctl -u fleetingd`.",
      cause: error,
    });
  }
  const details = isService && typeof error.details === "string" ? error.details : "";
  const code = CODES.get(status) ?? "INTERNAL";
  return new FleetingdError(code, details === "" ? messageOf(error) : details, { cause: error });
}

const CODES: ReadonlyMap<number | undefined, ErrorCode> = new Map([
  [Status.INVALID_ARGUMENT, "INVALID_ARGUMENT"],
  [Status.NOT_FOUND, "NOT_FOUND"],
  [Status.UNAVAILABLE, "UNAVAILABLE"],
  [Status.RESOURCE_EXHAUSTED, "EXHAUSTED"],
  [Status.PERMISSION_DENIED, "PERMISSION"],
  [Status.CANCELLED, "CANCELLED"],
]);

/** Where the daemon listens. */
export async function socketPathOf(options: GlobalOptions): Promise<string> {
  if (options.socket !== undefined) return resolve(options.socket);
  // Only here, for reading the configuration takes longer than asking the daemon.
  const { loadConfig } = await import("../config/load.ts");
  return (await loadConfig(options.config)).config.daemon.socketPath;
}

/** A plain connection first: it tells the reasons apart, where a gRPC client only says "unavailable". */
async function probe(path: string): Promise<void> {
  try {
    (await connectUnixSocket(path, CONNECT_TIMEOUT_MS)).destroy();
  } catch (error) {
    throw await noDaemon(path, error);
  }
}

async function noDaemon(path: string, error: unknown): Promise<NoDaemonError> {
  switch (systemErrorCode(error)) {
    case "ENOENT":
      return new NoDaemonError(`the daemon is not running: there is no socket ${path}.`, START_HINT, error);
    case "ECONNREFUSED":
      return new NoDaemonError(`the daemon is not running: nobody listens on ${path}.`, START_HINT, error);
    case "EACCES": {
      const group = await groupOf(path);
      if (group === "root") {
        const make = "Make the group that daemon.socket_group names and restart the daemon, or use sudo.";
        return new NoDaemonError(`no permission to use ${path}: it is for root only.`, make, error);
      }
      const who = group === undefined ? "root and one group" : `root and members of the group ${group}`;
      const hint = `Run \`sudo usermod -aG ${group ?? "fleetingd"} ${userInfo().username}\` and log in again, or use sudo.`;
      return new NoDaemonError(`no permission to use ${path}: it is for ${who}.`, hint, error);
    }
    default:
      return new NoDaemonError(
        `the daemon cannot be reached on ${path}: ${messageOf(error)}.`,
        START_HINT,
        error,
      );
  }
}

async function groupOf(path: string): Promise<string | undefined> {
  try {
    return await groupNameOf((await stat(path)).gid);
  } catch (error) {
    // The folder may be closed to us as well; then the message does without the name.
    if (systemErrorCode(error) === "EACCES") return undefined;
    throw error;
  }
}
