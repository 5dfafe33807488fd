/**
 * Processes that outlive us. A pid alone proves nothing after a restart, so a process is known by pid *and*
 * start time, and no signal is sent unless both still match.
 */
import { type FileHandle, open, readFile } from "node:fs/promises";
import { FleetingdError, systemErrorCode } from "../errors.ts";
import { type ChildProcess, startChild } from "./child.ts";
import { readProc } from "./proc.ts";
import { sleep } from "./wait.ts";

export interface ProcessIdentity {
  pid: number;
  /** Clock ticks between boot and the process's start (field 22 of /proc/<pid>/stat). */
  startTicks: number;
}

export interface DetachedOptions {
  /** Standard output and error are appended here, for it outlives our pipes. */
  outputPath: string;
  /** Standard error is appended here instead. */
  errorPath?: string;
  /** A file that it reads as standard input; nothing if it is left out. */
  inputPath?: string;
  /** What it is called in the list of processes, instead of its own name. */
  argv0?: string;
  cwd?: string;
  env?: NodeJS.ProcessEnv;
}

const POLL_MS = 20;

/**
 * Starts a program in a session of its own, so that it goes on when this process ends.
 * The caller still gets its `exit` event while this process lives.
 * @throws FleetingdError MISSING_PROGRAM or COMMAND_FAILED if it cannot be started at all.
 */
export async function spawnDetached(
  file: string,
  args: readonly string[],
  options: DetachedOptions,
): Promise<{ child: ChildProcess; identity: ProcessIdentity | undefined }> {
  const handles: FileHandle[] = [];
  const opened = async (path: string, flags: string): Promise<number> => {
    const handle = await open(path, flags, 0o600);
    handles.push(handle);
    return handle.fd;
  };
  try {
    const output = await opened(options.outputPath, "a");
    const errors = options.errorPath === undefined ? output : await opened(options.errorPath, "a");
    const input = options.inputPath === undefined ? "ignore" : await opened(options.inputPath, "r");
    const child = await startChild(file, args, {
      detached: true,
      stdio: [input, output, errors],
      ...(options.argv0 === undefined ? {} : { argv0: options.argv0 }),
      ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
      ...(options.env === undefined ? {} : { env: options.env }),
    });
    child.unref();
    const identity = child.pid === undefined ? undefined : await identifyProcess(child.pid);
    return { child, identity };
  } finally {
    for (const handle of handles) await handle.close();
  }
}

/** The identity of a living process, or undefined if there is none (a zombie counts as none). */
export async function identifyProcess(pid: number): Promise<ProcessIdentity | undefined> {
  const stat = readProc(`/proc/${pid}/stat`);
  if (stat === undefined) return undefined;
  // The second field is the program's name in parentheses and may hold anything, so count from its end.
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  if (fields[0] === "Z" || fields[0] === "X") return undefined;
  return { pid, startTicks: Number(fields[19]) };
}

export async function isAlive(process: ProcessIdentity): Promise<boolean> {
  const current = await identifyProcess(process.pid);
  return current?.startTicks === process.startTicks;
}

/** Sends `signal` if the process is still the same one; says whether it was. */
export async function signalProcess(target: ProcessIdentity, signal: NodeJS.Signals): Promise<boolean> {
  if (!(await isAlive(target))) return false;
  try {
    process.kill(target.pid, signal);
    return true;
  } catch (error) {
    if (systemErrorCode(error) === "ESRCH") return false;
    throw error;
  }
}

/** Waits until the process is gone; false if it still lives after `timeoutMs`. */
export async function waitForExit(target: ProcessIdentity, timeoutMs: number): Promise<boolean> {
  const deadline = performance.now() + timeoutMs;
  while (await isAlive(target)) {
    if (performance.now() >= deadline) return false;
    await sleep(POLL_MS);
  }
  return true;
}

/**
 * SIGTERM, a grace period, SIGKILL; returns when the process is gone.
 * @throws FleetingdError TIMEOUT if it outlives even SIGKILL (a process stuck in the kernel).
 */
export async function terminateProcess(target: ProcessIdentity, graceMs: number): Promise<void> {
  if (graceMs > 0 && (await signalProcess(target, "SIGTERM")) && (await waitForExit(target, graceMs))) return;
  if (!(await signalProcess(target, "SIGKILL"))) return;
  if (await waitForExit(target, 10_000)) return;
  throw new FleetingdError("TIMEOUT", `process ${target.pid} did not end within 10 s of SIGKILL`);
}

/** The argument vector of a process, or undefined if it is gone. */
export async function processArguments(pid: number): Promise<string[] | undefined> {
  try {
    return (await readFile(`/proc/${pid}/cmdline`, "utf8")).split("\0").slice(0, -1);
  } catch (error) {
    const code = systemErrorCode(error);
    if (code === "ENOENT" || code === "ESRCH") return undefined;
    throw error;
  }
}

/** The uid that a process runs as (its effective one), or undefined if it is gone. */
export async function processUser(pid: number): Promise<number | undefined> {
  const user = /^Uid:\t\d+\t(\d+)/m.exec(readProc(`/proc/${pid}/status`) ?? "")?.[1];
  return user === undefined ? undefined : Number(user);
}
