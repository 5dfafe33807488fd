/** What a hypervisor and its guest write to files: read for error messages, kept from filling the disk. */
import { type FSWatcher, watch } from "node:fs";
import { open, stat, truncate } from "node:fs/promises";
import { dirname } from "node:path";
import { messageOf, systemErrorCode } from "../errors.ts";
import { ifExists } from "../host/files.ts";
import type { Logger } from "../log.ts";

export interface TailOptions {
  /** Earlier bytes belong to an earlier run. */
  fromByte: number;
  isNoise(line: string): boolean;
}

const TAIL_BYTES = 16 * 1024;
const TAIL_LINES = 20;
const CHECK_MS = 1_000;
const UNWATCHED_CHECK_MS = 20_000;
/** In case a write was not told. */
const QUIET_CHECK_MS = 5 * 60_000;
/** A guest may print for ever; beyond this a log starts anew. */
export const MAX_LOG_BYTES = 16 * 1024 * 1024;

/** The last lines of a log; empty if there is no such file, and never a rejection: it serves error messages. */
export async function readTail(path: string, options: TailOptions): Promise<string> {
  try {
    const size = await fileSize(path);
    if (size === undefined) return "";
    // A log that is shorter than before was cut meanwhile.
    const start = Math.max(options.fromByte > size ? 0 : options.fromByte, size - TAIL_BYTES);
    const text = await readRange(path, start, size);
    const lines = text.split("\n").filter((line) => line.trim() !== "" && !options.isNoise(line));
    return lines.slice(-TAIL_LINES).join("\n");
  } catch (error) {
    return `(${path} could not be read: ${messageOf(error)})`;
  }
}

/** Bytes in the file, or undefined if there is none. */
export async function fileSize(path: string): Promise<number | undefined> {
  return (await ifExists(stat(path)))?.size;
}

/**
 * Cuts each log to nothing whenever it exceeds the limit; its writers append, so they go on at its new end. Logs that grow are
 * looked at every second. Those that don't are left alone until something in their folder is written: there may be hundreds.
 * @param paths In one folder.
 * @returns what ends it.
 */
export function keepLogsSmall(paths: readonly [string, ...string[]], logger: Logger): () => void {
  const directory = dirname(paths[0]);
  let stopWaiting: () => void = () => undefined;
  let ended = false;
  let lastBytes = 0;
  const after = (delayMs: number): (() => void) => {
    const timer = setTimeout(() => void check(), delayMs).unref();
    return () => clearTimeout(timer);
  };
  const check = async (): Promise<void> => {
    stopWaiting();
    let bytes = 0;
    for (const path of paths) {
      try {
        const size = await cutLargeLog(path);
        bytes += size;
        if (size > MAX_LOG_BYTES) logger.warn("a log was cut because it had grown too large", { path });
      } catch (error) {
        logger.warn("a log could not be checked", { path, error: messageOf(error) });
      }
    }
    const isQuiet = bytes === lastBytes;
    lastBytes = bytes;
    if (!ended) stopWaiting = isQuiet ? untilWritten() : after(CHECK_MS);
  };
  const untilWritten = (): (() => void) => {
    const hurry = (): void => {
      stopWaiting();
      stopWaiting = after(CHECK_MS);
    };
    const watcher = watchFolder(directory, hurry);
    const stopTimer = after(watcher === undefined ? UNWATCHED_CHECK_MS : QUIET_CHECK_MS);
    return () => {
      watcher?.close();
      stopTimer();
    };
  };
  stopWaiting = after(CHECK_MS);
  return () => {
    ended = true;
    stopWaiting();
  };
}

/** Calls `onChange` when a file in the folder is written, or the watch breaks; undefined if the kernel has no watch to give. */
function watchFolder(directory: string, onChange: () => void): FSWatcher | undefined {
  try {
    const watcher = watch(directory, { persistent: false });
    return watcher.once("change", onChange).once("error", onChange);
  } catch (error) {
    // There is a limit for each user, or the folder is gone or something else by now: whoever polls will see.
    if (systemErrorCode(error) !== undefined) return undefined;
    throw error;
  }
}

/** Empties the log if it exceeds `maxBytes`, and says how many it had. */
export async function cutLargeLog(path: string, maxBytes = MAX_LOG_BYTES): Promise<number> {
  const size = (await fileSize(path)) ?? 0;
  if (size > maxBytes) await truncate(path, 0);
  return size;
}

/** A part of a file, as text. */
export async function readRange(path: string, start: number, end: number): Promise<string> {
  const file = await open(path, "r");
  try {
    const { buffer, bytesRead } = await file.read(Buffer.alloc(end - start), 0, end - start, start);
    return buffer.toString("utf8", 0, bytesRead);
  } finally {
    await file.close();
  }
}
