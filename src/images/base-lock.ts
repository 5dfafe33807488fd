/** One process at a time fetches and publishes base images in a disk directory; the next one finds the result. */
import { join } from "node:path";
import { ensureDirectory } from "../host/files.ts";
import { withLock } from "../host/lock.ts";
import type { OnProgress } from "./image.ts";

export interface BaseLockOptions {
  diskDirectory: string;
  signal?: AbortSignal | undefined;
  /** Told when somebody else is at it. */
  onProgress?: OnProgress | undefined;
}

const TIMEOUT_MS = 2 * 60 * 60_000;

/** Runs `work` alone. Makes the disk directory. @throws FleetingdError TIMEOUT after two hours, CANCELLED */
export async function withBaseLock<T>(options: BaseLockOptions, work: () => Promise<T>): Promise<T> {
  const { diskDirectory, signal, onProgress } = options;
  const onWait = (): void => onProgress?.({ step: "waiting for another process that fetches base images" });
  await ensureDirectory(diskDirectory);
  return withLock(join(diskDirectory, ".base.lock"), { timeoutMs: TIMEOUT_MS, signal, onWait }, work);
}
