/** Programs that run beside this one and end with it; `run` is for those that are waited for. */
import { type ChildProcess, type SpawnOptions, spawn } from "node:child_process";
import { once } from "node:events";
import { FleetingdError, isMissingProgram } from "../errors.ts";
import { withTimeout } from "./wait.ts";

export type { ChildProcess } from "node:child_process";

const KILL_AFTER_MS = 60_000;

/** @throws FleetingdError MISSING_PROGRAM or COMMAND_FAILED if it cannot be started at all */
export async function startChild(
  file: string,
  args: readonly string[],
  options: SpawnOptions,
): Promise<ChildProcess> {
  const child = spawn(file, args, options);
  try {
    await once(child, "spawn");
    return child;
  } catch (error) {
    const code = isMissingProgram(error, file) ? "MISSING_PROGRAM" : "COMMAND_FAILED";
    throw new FleetingdError(code, `could not start ${file}`, { cause: error });
  }
}

export function hasEnded(child: ChildProcess): boolean {
  return child.exitCode !== null || child.signalCode !== null;
}

/** Resolves with the exit code when it has ended; null if a signal ended it. */
export async function exitOf(child: ChildProcess): Promise<number | null> {
  if (!hasEnded(child)) await once(child, "exit");
  return child.exitCode;
}

/** SIGTERM, and SIGKILL after a minute; resolves with the exit code when it has ended. */
export async function endChild(child: ChildProcess): Promise<number | null> {
  if (hasEnded(child)) return child.exitCode;
  const exited = exitOf(child);
  child.kill("SIGTERM");
  try {
    return await withTimeout(exited, KILL_AFTER_MS, "a program to end");
  } catch (error) {
    if (!(error instanceof FleetingdError) || error.code !== "TIMEOUT") throw error;
    child.kill("SIGKILL");
    return exited;
  }
}
