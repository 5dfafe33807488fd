/**
 * Downloads of large files whose checksum is known beforehand.
 *
 * Bytes are appended to `partialPath`, which stays where it is when the download breaks, is cancelled or the process is
 * killed: the next call goes on from there, also from another server, for the checksum decides in the end.
 */
import { createWriteStream } from "node:fs";
import { stat } from "node:fs/promises";
import type { IncomingMessage } from "node:http";
import { dirname } from "node:path";
import { pipeline } from "node:stream/promises";
import { FleetingdError } from "../errors.ts";
import { diskFull, explainDiskFull } from "./disk-full.ts";
import { freeBytes, ifExists, removeTree } from "./files.ts";
import {
  HttpError,
  type HttpOptions,
  httpFailure,
  openHttp,
  type RetryOptions,
  withRetries,
} from "./http.ts";
import { sha256OfFile } from "./sha256.ts";

export interface DownloadOptions extends HttpOptions, RetryOptions {
  url: string;
  /** Where the bytes go; a file there is taken for the beginning of this download. */
  partialPath: string;
  /** Hexadecimal digits. */
  sha256: string;
  /** Told at most four times a second. `totalBytes` is undefined as long as the server has not said it. */
  onProgress?: ((doneBytes: number, totalBytes: number | undefined) => void) | undefined;
}

const MAX_BYTES = 64 * 1024 ** 3;
const MIB = 1024 * 1024;
const PROGRESS_MS = 250;
/** A connection that breaks again and again may go on as long as each brings this much more. */
const PROGRESS_BYTES = MIB;
/** A server that drips is as good as dead: less than this in a minute counts as a failure. */
const SLOW_WINDOW_MS = 60_000;
const SLOW_BYTES = 64 * 1024;
const RANGE_NOT_SATISFIABLE = 416;

/**
 * Brings the file to `partialPath`; when this resolves, it is whole and has the checksum.
 * @throws FleetingdError VERIFICATION_FAILED if what the server has is another file (nothing of it is kept), EXHAUSTED if
 *   the disk is full (nothing is kept), CANCELLED or HttpError (the beginning is kept)
 */
export async function downloadFile(options: DownloadOptions): Promise<void> {
  const { url, partialPath, sha256, signal } = options;
  if ((await sizeOf(partialPath)) > 0 && (await sha256OfFile(partialPath, { signal })) === sha256) return;
  // A beginning from elsewhere may be wrong, so a file with a wrong sum is only then the server's fault if all of it is from there.
  for (let resumed = (await sizeOf(partialPath)) > 0; ; resumed = false) {
    const reached = { bytes: 0 };
    await withRetries(options, (progressed) => transfer(options, reached, progressed));
    if ((await sha256OfFile(partialPath, { signal })) === sha256) return;
    await removeTree(partialPath);
    if (!resumed) break;
  }
  throw new FleetingdError(
    "VERIFICATION_FAILED",
    `${url} does not have the checksum that was published for it`,
    {
      hint: "The server may be in the middle of an update, or something on the way changes what it sends.",
    },
  );
}

/**
 * One request: from the end of what is there to the end of the file.
 * @param reached how far any of them has come: only what is beyond is progress
 */
async function transfer(
  options: DownloadOptions,
  reached: { bytes: number },
  progressed: () => void,
): Promise<void> {
  const { url, partialPath } = options;
  const have = await sizeOf(partialPath);
  const headers: Record<string, string> = have > 0 ? { range: `bytes=${have}-` } : {};
  const acceptedStatus = have > 0 ? [RANGE_NOT_SATISFIABLE] : [];
  const { request, response, status } = await openHttp(url, { ...options, headers, acceptedStatus });
  try {
    if (status === RANGE_NOT_SATISFIABLE) {
      // All of it may be there already, without a byte more; the checksum will tell.
      if (totalOf(response) === have) return;
      await removeTree(partialPath);
      throw new HttpError(`${url} is not as long as what is here of it`, { transient: true });
    }
    const offset = status === 206 ? offsetOf(response) : 0;
    if (offset !== 0 && offset !== have) {
      throw new HttpError(`${url}: the server sent another part than asked for`, { transient: false });
    }
    const length = lengthOf(response);
    await requireRoom(options, length ?? 0);
    const total = length === undefined ? undefined : offset + length;
    const onBytes = (bytes: number): void => {
      if (bytes < reached.bytes + PROGRESS_BYTES) return;
      reached.bytes = bytes;
      progressed();
    };
    const received = await receive(request as AsyncIterable<Buffer>, options, { offset, total, onBytes });
    if (length !== undefined && received !== length) {
      throw new HttpError(`${url}: ${received} of ${length} bytes came`, { transient: true });
    }
  } catch (error) {
    const failure = explainDiskFull(
      httpFailure(url, error, options.signal),
      "the download",
      dirname(partialPath),
    );
    // Others need the room more than a later try needs the beginning.
    if (failure instanceof FleetingdError && failure.code === "EXHAUSTED") await removeTree(partialPath);
    throw failure;
  } finally {
    request.destroy();
  }
}

async function receive(
  body: AsyncIterable<Buffer>,
  options: DownloadOptions,
  at: { offset: number; total: number | undefined; onBytes: (bytes: number) => void },
): Promise<number> {
  let received = 0;
  let window = { startedAt: performance.now(), bytes: 0 };
  let toldAt = 0;
  const count = async function* (): AsyncGenerator<Buffer> {
    for await (const chunk of body) {
      received += chunk.length;
      window.bytes += chunk.length;
      if (at.offset + received > MAX_BYTES)
        throw new HttpError(`${options.url} is too large`, { transient: false });
      const now = performance.now();
      if (now - window.startedAt > SLOW_WINDOW_MS) {
        if (window.bytes < SLOW_BYTES) throw new HttpError(`${options.url}: too slow`, { transient: true });
        window = { startedAt: now, bytes: 0 };
      }
      at.onBytes(at.offset + received);
      if (now - toldAt > PROGRESS_MS || at.offset + received === at.total) {
        toldAt = now;
        options.onProgress?.(at.offset + received, at.total);
      }
      yield chunk;
    }
  };
  await pipeline(
    count,
    createWriteStream(options.partialPath, { flags: at.offset === 0 ? "w" : "a", mode: 0o600 }),
  );
  return received;
}

async function requireRoom({ partialPath }: DownloadOptions, bytes: number): Promise<void> {
  const directory = dirname(partialPath);
  const free = await freeBytes(directory);
  if (free >= bytes) return;
  const mib = (count: number): string => `${Math.ceil(count / MIB)} MiB`;
  throw diskFull(`${mib(bytes)} more of the download (${mib(free)} are free)`, directory);
}

function lengthOf(response: IncomingMessage): number | undefined {
  const text = response.headers["content-length"];
  return text !== undefined && /^\d+$/.test(text) ? Number(text) : undefined;
}

function offsetOf(response: IncomingMessage): number {
  return Number(/^bytes (\d+)-/.exec(response.headers["content-range"] ?? "")?.[1] ?? Number.NaN);
}

function totalOf(response: IncomingMessage): number {
  return Number(/\/(\d+)$/.exec(response.headers["content-range"] ?? "")?.[1] ?? Number.NaN);
}

async function sizeOf(path: string): Promise<number> {
  return (await ifExists(stat(path)))?.size ?? 0;
}
