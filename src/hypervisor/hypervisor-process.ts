/**
 * The process behind a VM, the same for every hypervisor: our own child, or one that an earlier daemon started.
 *
 *     launch ──> child of ours ──(its exit event)──────────────┐
 *                                                              ├──> exited, once
 *     watch ───> somebody else's ──(polls of pid + start time)─┘
 *
 * No signal is sent unless pid and start time still match. Timers and handles here never keep us from ending.
 */
import type { ChildProcess } from "node:child_process";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { systemErrorCode } from "../errors.ts";
import { isAlive, type ProcessIdentity, spawnDetached, terminateProcess } from "../host/process.ts";
import { CONSOLE_LOG, HYPERVISOR_LOG, type VmExit } from "./driver.ts";
import { fileSize, readTail } from "./output.ts";
import type { HypervisorKind, VmControl } from "./vm-control.ts";

export interface HypervisorProcess {
  readonly identity: ProcessIdentity;
  /** Settles once when the process is gone; never rejects. */
  readonly exited: Promise<VmExit>;
  /** Tells that the process is probably ending: somebody else's is then looked at often for a while. */
  expectExit(): void;
  /**
   * SIGTERM, up to `graceMs`, SIGKILL; returns when `exited` has settled. 0 kills at once.
   * @throws FleetingdError TIMEOUT if it outlives even that.
   */
  terminate(graceMs: number): Promise<void>;
}

/** How a launch went: `process` is undefined if it had ended before anybody could look at it. */
export interface Launched {
  process: HypervisorProcess | undefined;
  exited: Promise<VmExit>;
}

/** The monitor's end is noticed at once, so this is for a VM that has none: there may be hundreds to look at. */
const POLL_MS = 30_000;
const HURRIED_POLL_MS = 20;
const HURRIED_POLLS = 100;
const REAP_TIMEOUT_MS = 5_000;

/**
 * Starts a command in the VM's directory, its output appended to `hypervisor.log` there.
 * @throws FleetingdError MISSING_PROGRAM or COMMAND_FAILED if it cannot be started at all.
 */
export async function launchHypervisor(
  [program = "", ...args]: readonly string[],
  directory: string,
  kind: Pick<HypervisorKind<VmControl>, "isNoise" | "consoleIsOutput">,
  inputPath?: string,
): Promise<Launched> {
  const errorPath = join(directory, HYPERVISOR_LOG);
  const outputStart = (await fileSize(errorPath)) ?? 0;
  const { child, identity } = await spawnDetached(program, args, {
    outputPath: kind.consoleIsOutput ? join(directory, CONSOLE_LOG) : errorPath,
    errorPath,
    ...(inputPath === undefined ? {} : { inputPath }),
    cwd: directory,
    env: childEnvironment(),
  });
  const exited = exitOf(child).then(async ({ exitCode, signal }) => ({
    exitCode,
    signal,
    lastOutput: await readTail(errorPath, { fromByte: outputStart, isNoise: kind.isNoise }),
  }));
  if (identity === undefined) return { process: undefined, exited };
  return { process: handle(identity, exited, () => undefined), exited };
}

/** Watches a process that is not our child: its exit code stays unknown. */
export function watchHypervisor(
  identity: ProcessIdentity,
  directory: string,
  isNoise: (line: string) => boolean,
): HypervisorProcess {
  const { gone, hurry } = pollUntilGone(identity);
  const exited = gone.then(async () => ({
    exitCode: undefined,
    signal: undefined,
    lastOutput: await readTail(join(directory, HYPERVISOR_LOG), { fromByte: 0, isNoise }),
  }));
  return handle(identity, exited, hurry);
}

/** Whether `promise` settles within `timeoutMs`. It must be one that never rejects. */
export async function settlesWithin(promise: Promise<unknown>, timeoutMs: number): Promise<boolean> {
  const timer = new AbortController();
  const late = delay(timeoutMs, false, { signal: timer.signal }).catch(() => false);
  try {
    return await Promise.race([promise.then(() => true), late]);
  } finally {
    timer.abort();
  }
}

function handle(
  identity: ProcessIdentity,
  exited: Promise<VmExit>,
  expectExit: () => void,
): HypervisorProcess {
  return {
    identity,
    exited,
    expectExit,
    async terminate(graceMs) {
      await terminateProcess(identity, graceMs);
      expectExit();
      // The process is gone; only the news of it is under way.
      await settlesWithin(exited, REAP_TIMEOUT_MS);
    },
  };
}

/** The daemon's environment may hold passwords; a hypervisor needs none of it. */
function childEnvironment(): NodeJS.ProcessEnv {
  return { PATH: process.env["PATH"] ?? "/usr/sbin:/usr/bin:/sbin:/bin", LC_ALL: "C" };
}

function exitOf(child: ChildProcess): Promise<{ exitCode: number | undefined; signal: string | undefined }> {
  return new Promise((resolve) => {
    const settle = (): void =>
      resolve({ exitCode: child.exitCode ?? undefined, signal: child.signalCode ?? undefined });
    if (child.exitCode !== null || child.signalCode !== null) settle();
    else child.once("exit", settle);
  });
}

function pollUntilGone(identity: ProcessIdentity): { gone: Promise<void>; hurry: () => void } {
  let hurriedPolls = 0;
  let timer: NodeJS.Timeout | undefined;
  let look = (): void => undefined;
  const gone = new Promise<void>((resolve) => {
    const poll = async (): Promise<void> => {
      timer = undefined;
      if (!(await mayBeAlive(identity))) return resolve();
      hurriedPolls = Math.max(0, hurriedPolls - 1);
      timer = setTimeout(look, hurriedPolls > 0 ? HURRIED_POLL_MS : POLL_MS).unref();
    };
    look = () => void poll();
    look();
  });
  const hurry = (): void => {
    hurriedPolls = HURRIED_POLLS;
    // No timer means that a look is under way, or that the process is gone.
    if (timer === undefined) return;
    clearTimeout(timer);
    look();
  };
  return { gone, hurry };
}

async function mayBeAlive(identity: ProcessIdentity): Promise<boolean> {
  try {
    return await isAlive(identity);
  } catch (error) {
    // /proc could not be read just now (too many open files, say): that tells nothing of the process.
    if (systemErrorCode(error) === undefined) throw error;
    return true;
  }
}
