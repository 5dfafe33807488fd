/**
 * Whether a VM's disk has room for a job. An idle VM is asked by a login: no job has been there yet, so it says the truth and
 * has nothing to disturb. Of one that serves a job only the clone's size is looked at, from outside: the job is root there, and
 * would have the daemon talk to whatever it likes.
 */
import { stat } from "node:fs/promises";
import { systemErrorCode } from "../../errors.ts";
import { waitForLogin } from "../../host/ssh.ts";
import type { ConnectInfo } from "../source.ts";

const TIMEOUT_MS = 20_000;
/** Writes and removes a MiB where the job's user would: that is gone before anything of it reaches the disk. */
const PROBE = 'file=$(mktemp -p ~) && head -c 1048576 /dev/zero >"$file"; code=$?; rm -f "$file"; exit $code';
const BYTES_PER_BLOCK = 512;
const GIB = 1024 ** 3;
/** A file system of which that much is written has no room for its ordinary users any more. */
const FULL = 0.9;

/** Why an idle VM's disk is full, or undefined. @throws FleetingdError TIMEOUT, CANCELLED */
export async function fullFromInside(
  connectInfo: ConnectInfo,
  signal: AbortSignal,
): Promise<string | undefined> {
  const login = await waitForLogin({ ...connectInfo, hostKey: undefined }, { timeoutMs: TIMEOUT_MS, signal });
  try {
    const { exitCode, stderr } = await login.exec(`LC_ALL=C; export LC_ALL; ${PROBE}`, TIMEOUT_MS);
    // Whatever else an image has against it says nothing of its disk.
    return exitCode !== 0 && /No space left/.test(stderr) ? "its disk is full" : undefined;
  } finally {
    login.close();
  }
}

/** Why a clone has no room any more, as far as its size tells, or undefined. */
export async function fullFromOutside(clonePath: string, goldenPath: string): Promise<string | undefined> {
  const [clone, golden] = await Promise.all([statIfExists(clonePath), statIfExists(goldenPath)]);
  if (clone === undefined || golden === undefined) return undefined;
  // An overlay has only what is not in the golden image, a reflink has both.
  const blocks = clone.size === golden.size ? clone.blocks : clone.blocks + golden.blocks;
  const bytes = blocks * BYTES_PER_BLOCK;
  if (bytes < FULL * golden.size) return undefined;
  const gib = (size: number): string => (size / GIB).toFixed(1);
  return `its disk is nearly full: ${gib(bytes)} of ${gib(golden.size)} GiB were written`;
}

async function statIfExists(path: string): Promise<{ size: number; blocks: number } | undefined> {
  try {
    return await stat(path);
  } catch (error) {
    if (systemErrorCode(error) === "ENOENT") return undefined;
    throw error;
  }
}
