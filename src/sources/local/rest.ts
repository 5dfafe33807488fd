/** VMs that are paused while they wait for a job, and go on. */
import { FleetingdError } from "../../errors.ts";
import { type Login, waitForLogin } from "../../host/ssh.ts";
import { sleep } from "../../host/wait.ts";
import type { RunningVm } from "../../hypervisor/driver.ts";
import type { ConnectInfo } from "../source.ts";

/** What a system that does nothing is left. */
const IDLE_MIB = 256;
const INFLATION_MIN_MS = 1_000;
const INFLATION_MAX_MS = 10_000;
const POLL_MS = 100;
const COMMAND_TIMEOUT_MS = 60_000;
const GOOD_ENOUGH_MS = 250;
const MOST_QUESTIONS = 5;

/** How much memory a VM can do without while it rests. A clone of a snapshot has no balloon: it shares its memory instead. */
export function spareMiB(memoryMiB: number, isClone: boolean): number {
  return isClone ? 0 : Math.max(0, memoryMiB - IDLE_MIB);
}

/** Has the guest give so much memory back to the host, and stops it where it is. */
export async function restVm(vm: RunningVm, spareMiB: number, signal: AbortSignal): Promise<void> {
  if ((await vm.state()) === "paused") return;
  if (spareMiB > 0) await inflate(vm, spareMiB, signal);
  signal.throwIfAborted();
  await vm.pause();
}

/** As far as the guest comes: it keeps what it needs. */
async function inflate(vm: RunningVm, wantedMiB: number, signal: AbortSignal): Promise<void> {
  const begunAt = performance.now();
  const passedMs = (): number => performance.now() - begunAt;
  await vm.resizeBalloon(wantedMiB);
  // Cloud Hypervisor tells only what it has asked for.
  do await sleep(POLL_MS, signal);
  while (
    passedMs() < INFLATION_MIN_MS ||
    (passedMs() < INFLATION_MAX_MS && (await vm.balloonMiB()) < wantedMiB)
  );
}

/** Lets the guest go on, with all of its memory, and with the host's time: its own clock stood still. */
export async function wakeVm(
  vm: RunningVm,
  spareMiB: number,
  { connectInfo, timeoutMs, signal }: { connectInfo: ConnectInfo; timeoutMs: number; signal: AbortSignal },
): Promise<void> {
  await vm.resume();
  if (spareMiB > 0) await vm.resizeBalloon(0);
  const login = await waitForLogin({ ...connectInfo, hostKey: undefined }, { timeoutMs, signal });
  try {
    const ask = (command: string): Promise<string> => outputOf(vm, login, command, signal);
    await ask(advanceClock(await behindMs(ask)));
  } finally {
    login.close();
  }
}

/**
 * How far the guest's clock is behind the host's. It was asked some time between question and answer, so it is known to half
 * of what that took; a guest that is slow to answer is asked again, and the quickest answer counts.
 */
async function behindMs(ask: (command: string) => Promise<string>): Promise<number> {
  let best = { behindMs: 0, uncertainMs: Number.POSITIVE_INFINITY };
  for (let asked = 0; asked < MOST_QUESTIONS && best.uncertainMs > GOOD_ENOUGH_MS; asked++) {
    const sentAt = Date.now();
    const guestNs = await ask("date +%s%N");
    const uncertainMs = (Date.now() - sentAt) / 2;
    if (uncertainMs < best.uncertainMs)
      best = { behindMs: Math.round(sentAt + uncertainMs - Number(guestNs.slice(0, -6))), uncertainMs };
  }
  return best.behindMs;
}

/** By one program, which reads the clock and sets it: the command itself may take some time to begin. */
function advanceClock(ms: number): string {
  return `sudo -n date --set='${(ms / 1000).toFixed(3)} seconds' >/dev/null`;
}

async function outputOf(vm: RunningVm, login: Login, command: string, signal: AbortSignal): Promise<string> {
  const { exitCode, stdout, stderr } = await login.exec(command, COMMAND_TIMEOUT_MS, signal);
  if (exitCode === 0) return stdout.trim();
  throw new FleetingdError(
    "HYPERVISOR_FAILED",
    `the clock of ${vm.id} could not be set: ${stderr || stdout}`,
  );
}
