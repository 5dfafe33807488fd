/** Reads the configuration's files: `config.toml`, and what is in the folder `conf.d` beside it. */
import { readFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { type ConfigFile, parseConfig } from "../config.ts";
import { FleetingdError, messageOf, systemErrorCode } from "../errors.ts";
import { listDirectory } from "../host/files.ts";
import { DEFAULT_CONFIG_PATH } from "./paths.ts";
import type { Config } from "./types.ts";

export interface LoadedConfig {
  config: Config;
  /** The files that were read, in order. */
  files: readonly string[];
  /** What a person should know, a sentence each. */
  notes: readonly string[];
}

/**
 * Reads `path`, then `conf.d/*.toml` beside it in the order of their names. Without any file there are the defaults.
 * @param options.required Whether it is an error if `path` is missing; by default if it is not the usual path, for then
 *   somebody has named it.
 * @throws FleetingdError INVALID_CONFIG (all errors at once), PERMISSION
 */
export async function loadConfig(path: string, options: { required?: boolean } = {}): Promise<LoadedConfig> {
  const required = options.required ?? path !== DEFAULT_CONFIG_PATH;
  const main = await readConfigFile(path);
  if (main === undefined && required) {
    throw new FleetingdError("INVALID_CONFIG", `there is no configuration file ${path}.`, {
      hint: "Check the path; without --config the defaults hold where there is no file.",
    });
  }
  const directory = join(dirname(path), "conf.d");
  const names = (await readable(directory, listDirectory(directory))).filter((name) =>
    name.endsWith(".toml"),
  );
  const parts = await Promise.all(names.sort().map((name) => readConfigFile(join(directory, name))));
  const files = [main, ...parts].filter((file) => file !== undefined);
  const notes =
    main === undefined ? [`There is no ${path}: the defaults hold${alsoRead(parts.length)}.`] : [];
  return { config: parseConfig(files), files: files.map((file) => file.path), notes };
}

function alsoRead(count: number): string {
  return count === 0 ? "" : " for what conf.d does not say";
}

async function readConfigFile(path: string): Promise<ConfigFile | undefined> {
  try {
    return { path, text: await readFile(path, "utf8") };
  } catch (error) {
    if (systemErrorCode(error) === "ENOENT") return undefined;
    throw unreadable(path, error);
  }
}

async function readable<T>(path: string, reading: Promise<T>): Promise<T> {
  try {
    return await reading;
  } catch (error) {
    throw unreadable(path, error);
  }
}

function unreadable(path: string, error: unknown): FleetingdError {
  const code = systemErrorCode(error);
  if (code === "EACCES" || code === "EPERM") {
    return new FleetingdError("PERMISSION", `no permission to read ${path}.`, {
      hint: "Run as root, or make the file readable.",
      cause: error,
    });
  }
  if (code === "EISDIR" || code === "ENOTDIR") {
    const what = code === "EISDIR" ? "a folder, not a file" : "not a folder";
    return new FleetingdError("INVALID_CONFIG", `${path} is ${what}`, { cause: error });
  }
  return new FleetingdError("INVALID_CONFIG", `${path} could not be read: ${messageOf(error)}`, {
    cause: error,
  });
}
