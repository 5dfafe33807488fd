/** `fleetingd console`: what a VM printed on its console, and prints. */
import { stat } from "node:fs/promises";
import { join } from "node:path";
import { harmless } from "../api/text.ts";
import { FleetingdError, systemErrorCode } from "../errors.ts";
import { readGrowingFile } from "../host/growing-file.ts";
import { CONSOLE_LOG } from "../hypervisor/driver.ts";
import { type CliCommand, EXIT, type GlobalOptions } from "./context.ts";
import { readInstance } from "./instance-record.ts";

export interface ConsoleOptions extends GlobalOptions {
  instance: string;
  /** Goes on until the VM is gone or the command is interrupted. */
  follow?: boolean;
}

export const vmConsole: CliCommand<ConsoleOptions> = async (options, context) => {
  const { directory } = await readInstance(options, options.instance);
  const path = join(directory, CONSOLE_LOG);
  try {
    if ((await stat(path)).size === 0)
      context.err(`${options.instance} has shown nothing so far: a VM boots without a word if all is well.`);
    // It comes out of a VM that anybody's job may have: it must not steer this terminal.
    for await (const text of readGrowingFile(path, { follow: options.follow === true }))
      context.outRaw(harmless(text));
  } catch (error) {
    if (systemErrorCode(error) !== "ENOENT") throw error;
    throw new FleetingdError("UNAVAILABLE", `${options.instance} has no console yet, or none on this host.`, {
      hint: `\`fleetingd explain ${options.instance}\` shows how far it has come.`,
      cause: error,
    });
  }
  return EXIT.ok;
};
