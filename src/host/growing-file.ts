/** A file that somebody else writes to, such as a console's log. */
import { open } from "node:fs/promises";
import { exists } from "./files.ts";
import { sleep } from "./wait.ts";

export interface GrowingFileOptions {
  /** Goes on with what is appended, until the file is gone. */
  follow: boolean;
  /** Leaves out all but so much of what is there at the beginning. */
  lastBytes?: number;
  /** Ends it as if the file were gone. */
  signal?: AbortSignal;
}

const POLL_MS = 200;
const CHUNK_BYTES = 64 * 1024;

/** Its text, a piece at a time. One that is cut meanwhile is read from its beginning. @throws the system error */
export async function* readGrowingFile(
  path: string,
  { follow, lastBytes = Number.POSITIVE_INFINITY, signal }: GrowingFileOptions,
): AsyncGenerator<string> {
  const file = await open(path, "r");
  try {
    const buffer = Buffer.alloc(CHUNK_BYTES);
    const decoder = new TextDecoder();
    let position = Math.max(0, (await file.stat()).size - lastBytes);
    while (signal?.aborted !== true) {
      const { bytesRead } = await file.read(buffer, 0, buffer.length, position);
      position += bytesRead;
      if (bytesRead > 0) {
        yield decoder.decode(buffer.subarray(0, bytesRead), { stream: true });
        continue;
      }
      if (!follow || !(await exists(path))) return;
      await sleep(POLL_MS);
      if ((await file.stat()).size < position) position = 0;
    }
  } finally {
    await file.close();
  }
}
