/**
 * What a test may leave behind on a machine: processes, network devices, nftables tables, routes, mounts, files.
 *
 * Taken before and after, two snapshots differ only by what leaked. Processes are those that descend from the test and,
 * in a pid namespace of the suite's own, also those whose parent has ended.
 */
import assert from "node:assert/strict";
import { readdir, readFile } from "node:fs/promises";
import { FleetingdError, systemErrorCode } from "../../src/errors.ts";
import { readTextIfExists } from "../../src/host/files.ts";
import { run } from "../../src/host/run.ts";
import { sleep } from "../../src/host/wait.ts";
import { inTestNamespace, isRoot } from "./namespace.ts";

/** Each part is a list of lines that name one thing each. */
export type HostSnapshot = Readonly<Record<Part, readonly string[]>>;
type Part =
  | "processes"
  | "network devices"
  | "nftables tables"
  | "routes"
  | "forwarding"
  | "mounts"
  | "files";

export interface SnapshotOptions {
  /** Folders whose files count, with all that is below them; they need not exist. */
  directories?: readonly string[];
}

export interface LeakCheckOptions extends SnapshotOptions {
  /** How long what is ending may take to end. Default 60 s: only a leak waits for it. */
  settleMs?: number;
}

const DEFAULT_SETTLE_MS = 60_000;
const POLL_MS = 50;

export async function snapshotHost(options: SnapshotOptions = {}): Promise<HostSnapshot> {
  // First and alone: what the other questions start is no leak.
  const processes = await ownProcesses();
  const [devices, tables, routes, forwarding, mounts, files] = await Promise.all([
    networkDevices(),
    nftTables(),
    lines("/proc/self/net/route"),
    lines("/proc/sys/net/ipv4/ip_forward"),
    mountPoints(),
    filesBelow(options.directories ?? []),
  ]);
  return {
    processes,
    "network devices": devices,
    "nftables tables": tables,
    routes,
    forwarding,
    mounts,
    files,
  };
}

/**
 * Fails with a list of all that is there now and was not in `before`. Call it when everything has been torn down, with
 * the same `directories` as the snapshot.
 */
export async function assertNothingLeaked(
  before: HostSnapshot,
  options: LeakCheckOptions = {},
): Promise<void> {
  const deadline = performance.now() + (options.settleMs ?? DEFAULT_SETTLE_MS);
  for (;;) {
    const leaked = difference(before, await snapshotHost(options));
    if (leaked.length === 0) return;
    if (performance.now() >= deadline) assert.fail(`left behind:\n${leaked.join("\n")}`);
    await sleep(POLL_MS);
  }
}

function difference(before: HostSnapshot, after: HostSnapshot): string[] {
  return (Object.keys(after) as Part[]).flatMap((part) => {
    const known = new Set(before[part]);
    return after[part].filter((entry) => !known.has(entry)).map((entry) => `  ${part}: ${entry}`);
  });
}

interface Process {
  pid: number;
  parent: number;
  description: string;
}

async function ownProcesses(): Promise<string[]> {
  const pids = (await readdir("/proc")).filter((name) => /^\d+$/.test(name)).map(Number);
  const all = (await Promise.all(pids.map(describeProcess))).filter((found) => found !== undefined);
  const own = new Set([process.pid, ...(inTestNamespace() ? [1] : [])]);
  // A parent may come after its child, so go over the list until nothing is added.
  for (let size = 0; size !== own.size; ) {
    size = own.size;
    for (const { pid, parent } of all) if (own.has(parent) && !isTestRunner(pid, parent)) own.add(pid);
  }
  return all
    .filter(({ pid }) => own.has(pid) && pid !== process.pid && pid !== 1)
    .filter(({ description }) => !isCompiler(description))
    .map(({ pid, description }) => `${pid} ${description}`);
}

/** The runner is a child of the namespace's first process, and so are its other test files. */
function isTestRunner(pid: number, parent: number): boolean {
  return parent === 1 && pid === process.ppid;
}

/** tsx starts esbuild's service whenever it first has something to compile. */
function isCompiler(description: string): boolean {
  return /esbuild .*--service/.test(description);
}

async function describeProcess(pid: number): Promise<Process | undefined> {
  try {
    const stat = await readFile(`/proc/${pid}/stat`, "utf8");
    const end = stat.lastIndexOf(")");
    const words = (await readFile(`/proc/${pid}/cmdline`, "utf8")).split("\0").join(" ").trim();
    const [state, parent] = stat.slice(end + 2).split(" ");
    const zombie = state === "Z" ? " (ended, never reaped)" : "";
    const name = stat.slice(stat.indexOf("(") + 1, end);
    return { pid, parent: Number(parent), description: `${words || name}${zombie}`.slice(0, 300) };
  } catch (error) {
    const code = systemErrorCode(error);
    // It ended meanwhile.
    if (code === "ENOENT" || code === "ESRCH") return undefined;
    throw error;
  }
}

async function networkDevices(): Promise<string[]> {
  return (await lines("/proc/self/net/dev"))
    .filter((line) => line.includes(":"))
    .map((line) => line.slice(0, line.indexOf(":")).trim());
}

async function nftTables(): Promise<string[]> {
  if (!isRoot()) return [];
  try {
    return (await run("nft", ["list", "tables"])).stdout.split("\n").filter((line) => line !== "");
  } catch (error) {
    if (error instanceof FleetingdError && error.code === "MISSING_PROGRAM") return [];
    throw error;
  }
}

/** Mount point and file system type; the leading ids differ from one read to the next. */
async function mountPoints(): Promise<string[]> {
  return (await lines("/proc/self/mountinfo")).map((line) => {
    const [before = "", after = ""] = line.split(" - ");
    return `${before.split(" ")[4]} (${after.split(" ")[0]})`;
  });
}

async function filesBelow(directories: readonly string[]): Promise<string[]> {
  const found = await Promise.all(directories.map(filesOf));
  return found.flat();
}

async function filesOf(directory: string): Promise<string[]> {
  try {
    return (await readdir(directory, { recursive: true })).map((name) => `${directory}/${name}`);
  } catch (error) {
    // Removed as a whole, or never made.
    if (systemErrorCode(error) === "ENOENT") return [];
    throw error;
  }
}

async function lines(path: string): Promise<string[]> {
  return ((await readTextIfExists(path)) ?? "").split("\n").filter((line) => line !== "");
}
