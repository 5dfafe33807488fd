/** What the kernel tells of itself in /proc and /sys. */
import { readFileSync } from "node:fs";
import { systemErrorCode } from "../errors.ts";

/**
 * The text of such a file, or undefined if there is none (any more). At once: the kernel makes it in memory, and to have a thread
 * do it takes ten times as long. Not for what may wait for somebody: `/proc/<pid>/cmdline` does for the process's memory.
 */
export function readProc(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8");
  } catch (error) {
    const code = systemErrorCode(error);
    if (code === "ENOENT" || code === "ESRCH") return undefined;
    throw error;
  }
}
