/** Files that the host's own programs decompress. */
import { run } from "../host/run.ts";

const TIMEOUT_MS = 60_000;
/** By a file's suffix. `-m`, because lz4 writes to its standard output otherwise. */
const PROGRAMS: Readonly<Record<string, readonly [string, ...string[]]>> = {
  ".xz": ["xz", "-d", "-q"],
  ".zst": ["zstd", "-d", "-q"],
  ".gz": ["gzip", "-d", "-q"],
  ".lz4": ["lz4", "-d", "-q", "-m"],
};

/** The suffix of a name that says how its file is compressed; undefined: not at all. */
export function compressionOf(fileName: string): string | undefined {
  return Object.keys(PROGRAMS).find((suffix) => fileName.endsWith(suffix));
}

/**
 * Decompresses a file into one without its suffix, whose path it returns. Some programs remove the compressed one.
 * @throws FleetingdError MISSING_PROGRAM, COMMAND_FAILED
 */
export async function decompressFile(path: string): Promise<string> {
  const suffix = compressionOf(path) ?? "";
  const [program, ...options] = PROGRAMS[suffix] ?? ["false"];
  await run(program, [...options, path], { timeoutMs: TIMEOUT_MS });
  return path.slice(0, -suffix.length);
}
