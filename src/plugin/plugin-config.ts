/** What the plugin itself reads of `[runners.autoscaler.plugin_config]`; all else is the daemon's. */
import { isAbsolute } from "node:path";
import { status as Status } from "@grpc/grpc-js";
import { messageOf } from "../errors.ts";
import type { ConnectorConfig } from "../gen/fleeting.ts";
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

/**
 * What the daemon is told: `plugin_config`, and of what the runner logs in with what machines can be given.
 * @param configJson as `daemonSocket` has accepted it
 */
export function withRunnersLogin(configJson: string, settings: ConnectorConfig | undefined): string {
  const config = configJson === "" ? null : (JSON.parse(configJson) as PluginConfig | null);
  if (config === null || settings === undefined) return configJson;
  const more = { ...staticCredentials(config, settings), ...ignitionUser(config, settings) };
  return Object.keys(more).length === 0 ? configJson : JSON.stringify({ ...config, ...more });
}

type PluginConfig = Readonly<Record<string, unknown>>;

/** Only VMware Cloud Director's machines can be given them, as fleeting-plugin-vcd does it; elsewhere the image has to know them. */
function staticCredentials(config: PluginConfig, settings: ConnectorConfig): PluginConfig {
  if (!settings.useStaticCredentials || config["virtual_datacenter"] === undefined) return {};
  const { password, key } = settings;
  const says = (...keys: string[]): boolean => keys.some((name) => config[name] !== undefined);
  return {
    ...(password === "" || says("admin_password", "admin_password_file") ? {} : { admin_password: password }),
    ...(key.length === 0 || says("ssh_key", "ssh_key_path") ? {} : { ssh_key: key.toString("utf8") }),
  };
}

/** Whose key it is that an image with Ignition gets in OpenStack, as fleeting-plugin-openstack does it. */
function ignitionUser(config: PluginConfig, { username }: ConnectorConfig): PluginConfig {
  const isMeant = config["use_ignition"] === true && config["username"] === undefined && username !== "";
  return isMeant ? { username } : {};
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
