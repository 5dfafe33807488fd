/** A lock between processes: the daemon and the command line must not build the same image twice. */
import { dirname } from "node:path";
import lockfile from "proper-lockfile";
import { FleetingdError, systemErrorCode } from "../errors.ts";
import { ensureDirectory } from "./files.ts";
import { sleep } from "./wait.ts";

export interface LockOptions {
  timeoutMs: number;
  signal?: AbortSignal | undefined;
  /** Called once if somebody else holds the lock. */
  onWait?: () => void;
}

// The holder renews its lock every 5 s; a killed holder's lock is taken over after 10 s.
const STALE_MS = 10_000;
const RETRY_MS = 250;

/**
 * Runs `work` while holding the lock `path`.
 * @throws FleetingdError TIMEOUT if the lock is not free within `timeoutMs`; CANCELLED by the signal.
 */
export async function withLock<T>(path: string, options: LockOptions, work: () => Promise<T>): Promise<T> {
  await ensureDirectory(dirname(path));
  const release = await acquire(path, options);
  try {
    return await work();
  } finally {
    await release().catch(ignoreLost);
  }
}

function ignoreLost(error: unknown): void {
  const code = systemErrorCode(error);
  // It is another process's now, or was removed by hand: there is nothing to give back.
  if (code !== "ERELEASED" && code !== "ENOTACQUIRED") throw error;
}

/**
 * This process was stopped for longer than the lock stays valid, and another one took it. What the lock guards is published
 * by a rename and so stays whole; at worst something was made twice. The library's own handler would end the process.
 */
function onCompromised(error: Error): void {
  process.emitWarning(`a lock was lost to another process: ${error.message}`);
}

async function acquire(path: string, options: LockOptions): Promise<() => Promise<void>> {
  const deadline = performance.now() + options.timeoutMs;
  for (let attempt = 0; ; attempt++) {
    try {
      return await lockfile.lock(path, {
        realpath: false,
        stale: STALE_MS,
        lockfilePath: path,
        onCompromised,
      });
    } catch (error) {
      if (systemErrorCode(error) !== "ELOCKED") throw error;
      if (performance.now() >= deadline) {
        throw new FleetingdError(
          "TIMEOUT",
          `another process has held ${path} for ${options.timeoutMs / 1000} s`,
          { cause: error },
        );
      }
    }
    if (attempt === 0) options.onWait?.();
    await sleep(RETRY_MS, options.signal);
  }
}
