/** `fleetingd import-config`: what a runner's configuration for another plugin would be here. Changes nothing. */

import { FleetingdError, messageOf, systemErrorCode } from "../errors.ts";
import { findProgram, listDirectory, readTextIfExists } from "../host/files.ts";
import { type CliCommand, EXIT, type ReadOptions } from "./context.ts";
import { importRunners } from "./import/import.ts";
import { BASE_IMAGES } from "./import/libvirt-executor.ts";
import { renderImport } from "./import/render.ts";

export interface ImportOptions extends ReadOptions {
  /** The path of the runner's `config.toml`. */
  file: string;
}

export const importConfig: CliCommand<ImportOptions> = async ({ file, json }, context) => {
  const made = importRunners(file, await readRunnerConfig(file), {
    baseImages: await baseImages(),
    program: (await findProgram("fleetingd")) ?? "/usr/local/bin/fleetingd",
  });
  if (json === true) context.out(JSON.stringify(made, null, 2));
  else for (const line of renderImport(file, made)) context.out(line);
  return EXIT.ok;
};

async function baseImages(): Promise<string[]> {
  try {
    return (await listDirectory(BASE_IMAGES)).sort();
  } catch (error) {
    // The file can be imported by whoever may read it; the note says what is then to be done.
    if (systemErrorCode(error) === "EACCES") return [];
    throw error;
  }
}

async function readRunnerConfig(file: string): Promise<string> {
  try {
    const text = await readTextIfExists(file);
    if (text !== undefined) return text;
  } catch (error) {
    const why = systemErrorCode(error) === "EACCES" ? "no permission; run this as root" : messageOf(error);
    throw new FleetingdError("INVALID_ARGUMENT", `${file} can't be read: ${why}`, { cause: error });
  }
  throw new FleetingdError("NOT_FOUND", `there is no file ${file}.`, {
    hint: "GitLab Runner's is /etc/gitlab-runner/config.toml.",
  });
}
