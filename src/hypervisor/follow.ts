/** Reads what is appended to a file, as it is appended. */
import { type FSWatcher, watch } from "node:fs";
import { messageOf, systemErrorCode } from "../errors.ts";
import type { Logger } from "../log.ts";
import { fileSize, readRange } from "./output.ts";

export interface Follower {
  /** Reads what is there now. */
  catchUp(): Promise<void>;
  close(): void;
}

const LARGEST_PIECE_BYTES = 1024 * 1024;

/** Follows a file that exists. One that became shorter was begun anew. */
export function followFile(path: string, onText: (text: string) => void, logger: Logger): Follower {
  let offset = 0;
  let reading = Promise.resolve();
  const read = async (): Promise<void> => {
    const size = (await fileSize(path)) ?? 0;
    if (size < offset) offset = 0;
    while (offset < size) {
      const end = Math.min(size, offset + LARGEST_PIECE_BYTES);
      onText(await readRange(path, offset, end));
      offset = end;
    }
  };
  const catchUp = (): Promise<void> => {
    reading = reading.then(read).catch((error: unknown) => {
      if (systemErrorCode(error) !== "ENOENT")
        logger.warn("a file can't be followed", { path, error: messageOf(error) });
    });
    return reading;
  };
  let watcher: FSWatcher | undefined;
  try {
    watcher = watch(path, { persistent: false }, () => void catchUp());
    watcher.on("error", (error) => logger.warn("a file can't be watched", { path, error: messageOf(error) }));
  } catch (error) {
    logger.warn("a file can't be watched", { path, error: messageOf(error) });
  }
  void catchUp();
  return { catchUp, close: () => watcher?.close() };
}
