/**
 * Whether the host is being drained. That is kept on disk: whoever takes a host out of service wants it so until he puts it
 * back, whatever restarts the daemon or the host meanwhile.
 */
import { join } from "node:path";
import { ensureDurableDirectory, exists, removeTree, syncDirectory, writeFileAtomic } from "../host/files.ts";

/** In the state directory. */
export const DRAIN_MARK = "draining";

export function isDrained(stateDirectory: string): Promise<boolean> {
  return exists(join(stateDirectory, DRAIN_MARK));
}

/** Durable when it returns. */
export async function keepDrained(stateDirectory: string, drained: boolean): Promise<void> {
  const path = join(stateDirectory, DRAIN_MARK);
  await ensureDurableDirectory(stateDirectory);
  if (drained) return writeFileAtomic(path, "`fleetingd drain --undo` ends this.\n");
  await removeTree(path);
  await syncDirectory(stateDirectory);
}
