/** What the plugin itself reads of `[runners.autoscaler.plugin_config]`; all else is the daemon's. */
import { isAbsolute } from "node:path";
import { status as Status } from "@grpc/grpc-js";
import { messageOf } from "../errors.ts";
import { StatusError } from "./status-error.ts";

export const DEFAULT_SOCKET = "/run/fleetingd/fleetingd.sock";

/**
 * The path of the daemon's socket.
 * @param configJson JSON of `plugin_config`; may be empty or `null`.
 * @throws StatusError INVALID_ARGUMENT
 */
export function daemonSocket(configJson: string, env: NodeJS.ProcessEnv): string {
  const socket = configuredSocket(configJson);
  if (socket === undefined) return env["FLEETINGD_SOCKET"] || DEFAULT_SOCKET;
  if (typeof socket === "string" && isAbsolute(socket)) return socket;
  throw invalid(
    `plugin_config: socket must be the absolute path of the daemon's socket, such as "${DEFAULT_SOCKET}", ` +
      `but it is ${JSON.stringify(socket)}`,
  );
}

function configuredSocket(configJson: string): unknown {
  if (configJson === "") return undefined;
  let config: unknown;
  try {
    config = JSON.parse(configJson);
  } catch (error) {
    throw invalid(`plugin_config is not valid JSON: ${messageOf(error)}`);
  }
  if (config === null) return undefined;
  if (typeof config !== "object" || Array.isArray(config)) throw invalid("plugin_config must be a table");
  return "socket" in config ? config.socket : undefined;
}

function invalid(message: string): StatusError {
  return new StatusError(Status.INVALID_ARGUMENT, message);
}
