/** Checksums of files that do not fit in memory. */
import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { pipeline } from "node:stream/promises";
import { FleetingdError } from "../errors.ts";

/**
 * The SHA-256 of a file, in hexadecimal digits.
 * @param onBytes told how many bytes have been read
 * @throws FleetingdError CANCELLED; a system error if the file cannot be read
 */
export async function sha256OfFile(
  path: string,
  options: { signal?: AbortSignal | undefined; onBytes?: ((bytes: number) => void) | undefined } = {},
): Promise<string> {
  const hash = createHash("sha256");
  let bytes = 0;
  try {
    await pipeline(
      createReadStream(path, { highWaterMark: 1024 * 1024 }),
      async (chunks: AsyncIterable<Buffer>) => {
        for await (const chunk of chunks) {
          hash.update(chunk);
          bytes += chunk.length;
          options.onBytes?.(bytes);
        }
      },
      options.signal === undefined ? {} : { signal: options.signal },
    );
  } catch (error) {
    if (!options.signal?.aborted) throw error;
    throw new FleetingdError("CANCELLED", `cancelled while reading ${path}`, { cause: error });
  }
  return hash.digest("hex");
}
