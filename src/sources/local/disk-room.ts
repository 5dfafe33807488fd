/**
 * Whether a VM's disk has room for a job. The clone's size tells from outside how much was written. An idle VM that has written
 * much is asked by a login: no job has been there yet, so it says the truth and has nothing to disturb. One that serves a job is
 * not: the job is root there, and would have the daemon talk to whatever it likes.
 */
import { stat } from "node:fs/promises";
import { ifExists } from "../../host/files.ts";
import { waitForLogin } from "../../host/ssh.ts";
import type { ConnectInfo } from "../source.ts";

const TIMEOUT_MS = 20_000;
/** Writes and removes a MiB where the job's user would: that is gone before anything of it reaches the disk. */
const PROBE = 'file=$(mktemp -p ~) && head -c 1048576 /dev/zero >"$file"; code=$?; rm -f "$file"; exit $code';
const BYTES_PER_BLOCK = 512;
const GIB = 1024 ** 3;
/** A file system of which that much is written has no room for its ordinary users any more. */
const FULL = 0.9;
/**
 * What is free in an idle VM can't be gone before that much of it was written; so little, because a file system may have less
 * than the disk, and files less on the disk than in it.
 */
const MUCH = 0.05;

/** In bytes. */
export interface DiskUsage {
  size: number;
  /** Of the golden image. */
  goldenBytes: number;
  /** What the VM has written besides. */
  writtenBytes: number;
}

/** Why an idle VM's disk is full, or undefined. @throws FleetingdError TIMEOUT, CANCELLED */
export async function fullFromInside(
  connectInfo: ConnectInfo,
  signal: AbortSignal,
): Promise<string | undefined> {
  const login = await waitForLogin({ ...connectInfo, hostKey: undefined }, { timeoutMs: TIMEOUT_MS, signal });
  try {
    const { exitCode, stderr } = await login.exec(`LC_ALL=C; export LC_ALL; ${PROBE}`, TIMEOUT_MS, signal);
    // Whatever else an image has against it says nothing of its disk.
    return exitCode !== 0 && /No space left/.test(stderr) ? "its disk is full" : undefined;
  } finally {
    login.close();
  }
}

/** How much of a clone's disk is in use, as far as its size tells; undefined if it or its golden image is gone. */
export async function readUsage(clonePath: string, goldenPath: string): Promise<DiskUsage | undefined> {
  const [clone, golden] = await Promise.all([ifExists(stat(clonePath)), ifExists(stat(goldenPath))]);
  if (clone === undefined || golden === undefined) return undefined;
  // An overlay has only what is not in the golden image, a reflink has both.
  const written = clone.size === golden.size ? Math.max(0, clone.blocks - golden.blocks) : clone.blocks;
  return {
    size: golden.size,
    goldenBytes: golden.blocks * BYTES_PER_BLOCK,
    writtenBytes: written * BYTES_PER_BLOCK,
  };
}

/** Whether it might be full. */
export function hasWrittenMuch(usage: DiskUsage | undefined): boolean {
  return usage !== undefined && usage.writtenBytes > MUCH * (usage.size - usage.goldenBytes);
}

/** Why a clone has no room any more, or undefined. */
export function fullFromOutside(usage: DiskUsage | undefined): string | undefined {
  if (usage === undefined) return undefined;
  const { size } = usage;
  const bytes = usage.goldenBytes + usage.writtenBytes;
  if (bytes < FULL * size) return undefined;
  const gib = (value: number): string => (value / GIB).toFixed(1);
  return `its disk is nearly full: ${gib(bytes)} of ${gib(size)} GiB were written`;
}
