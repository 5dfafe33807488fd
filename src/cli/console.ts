/** `fleetingd console`: what a VM printed on its console, and prints. */
import { open } from "node:fs/promises";
import { join } from "node:path";
import { FleetingdError, systemErrorCode } from "../errors.ts";
import { exists } from "../host/files.ts";
import { sleep } from "../host/wait.ts";
import { CONSOLE_LOG } from "../hypervisor/driver.ts";
import { type CliCommand, EXIT, type GlobalOptions } from "./context.ts";
import { harmless } from "./format.ts";
import { readInstance } from "./instance-record.ts";

export interface ConsoleOptions extends GlobalOptions {
  instance: string;
  /** Goes on until the VM is gone or the command is interrupted. */
  follow?: boolean;
}

const POLL_MS = 200;
const CHUNK_BYTES = 64 * 1024;

export const vmConsole: CliCommand<ConsoleOptions> = async (options, context) => {
  const { directory } = await readInstance(options, options.instance);
  const path = join(directory, CONSOLE_LOG);
  const file = await open(path, "r").catch((error: unknown) => {
    if (systemErrorCode(error) !== "ENOENT") throw error;
    throw new FleetingdError("UNAVAILABLE", `${options.instance} has no console yet, or none on this host.`, {
      hint: `\`fleetingd explain ${options.instance}\` shows how far it has come.`,
      cause: error,
    });
  });
  const buffer = Buffer.alloc(CHUNK_BYTES);
  const decoder = new TextDecoder();
  try {
    for (let position = 0; ; ) {
      const { bytesRead } = await file.read(buffer, 0, buffer.length, position);
      position += bytesRead;
      // It comes out of a VM that anybody's job may have: it must not steer this terminal.
      context.outRaw(harmless(decoder.decode(buffer.subarray(0, bytesRead), { stream: true })));
      if (bytesRead > 0) continue;
      if (options.follow !== true || !(await exists(path))) return EXIT.ok;
      await sleep(POLL_MS);
    }
  } finally {
    await file.close();
  }
};
