/**
 * One VM, whatever its hypervisor.
 *
 *     running ──power button, guest's poweroff──> gone
 *      │  ▲ └── quit ── SIGTERM ── SIGKILL ─────> gone ── control closed, socket removed ── exited
 *   pause resume
 *      ▼  │
 *     paused: its guest hears no power button
 *
 * What the hypervisor says makes us look at the process; only the process's own end counts.
 */
import { join } from "node:path";
import { describeError, messageOf } from "../errors.ts";
import { removeTree } from "../host/files.ts";
import type { Logger } from "../log.ts";
import { CONSOLE_LOG, HYPERVISOR_LOG, type RunningVm, type VmExit } from "./driver.ts";
import { type HypervisorProcess, settlesWithin } from "./hypervisor-process.ts";
import { keepLogsSmall } from "./output.ts";
import type { HypervisorKind, VmControl } from "./vm-control.ts";

export interface ManagedVm<C extends VmControl> extends RunningVm {
  readonly control: C;
}

const COMMAND_TIMEOUT_MS = 5_000;
const QUIT_TIMEOUT_MS = 2_000;
const TERMINATE_TIMEOUT_MS = 2_000;
/** A guest that is still booting does not hear the button, so it is pressed again. */
const PRESS_INTERVAL_MS = 3_000;

/** Takes charge of a hypervisor's process: its control, its logs, its end. */
export function manageVm<C extends VmControl>(
  kind: HypervisorKind<C>,
  vm: { id: string; directory: string },
  process: HypervisorProcess,
  logger: Logger,
): ManagedVm<C> {
  const log = logger.child({ instance: vm.id });
  const control = kind.control({
    id: vm.id,
    directory: vm.directory,
    logger: log,
    onLost: () => process.expectExit(),
  });
  const stopCheckingLogs = keepLogsSmall(
    [join(vm.directory, CONSOLE_LOG), join(vm.directory, HYPERVISOR_LOG)],
    log,
  );
  let isGone = false;
  const exited = process.exited.then(async (exit) => {
    isGone = true;
    stopCheckingLogs();
    const completed = await control.complete(exit);
    control.close();
    for (const name of [kind.socketName, kind.channelSocketName]) {
      await removeTree(join(vm.directory, name)).catch((error: unknown) =>
        log.warn("a stopped VM's socket could not be removed", { error: messageOf(error) }),
      );
    }
    return completed;
  });

  let ending: Promise<void> | undefined;
  return {
    id: vm.id,
    process: process.identity,
    exited,
    diskFailed: control.diskFailed,
    control,
    async state() {
      try {
        return isGone ? "stopped" : await control.state(COMMAND_TIMEOUT_MS);
      } catch (error) {
        if (isGone) return "stopped";
        throw error;
      }
    },
    async pause() {
      if ((await control.state(COMMAND_TIMEOUT_MS)) !== "paused") await control.pause(COMMAND_TIMEOUT_MS);
    },
    async resume() {
      if ((await control.state(COMMAND_TIMEOUT_MS)) !== "running") await control.resume(COMMAND_TIMEOUT_MS);
    },
    resizeBalloon: (balloonMiB) => control.resizeBalloon(balloonMiB, COMMAND_TIMEOUT_MS),
    balloonMiB: () => control.balloonMiB(COMMAND_TIMEOUT_MS),
    async stop({ graceMs }) {
      if (graceMs > 0 && !isGone) await askToPowerOff(control, exited, graceMs, log);
      if (isGone) return void (await exited);
      // All callers share one end by force; one that failed may be tried again.
      ending ??= endByForce(control, process, exited, log).finally(() => {
        ending = undefined;
      });
      await ending;
    },
    saveState: (stateDirectory, { timeoutMs }) => control.saveState(stateDirectory, timeoutMs),
    openChannel: ({ timeoutMs }) => control.openChannel(timeoutMs),
    removeChannel: ({ timeoutMs }) => control.removeChannel(timeoutMs),
  };
}

async function askToPowerOff(
  control: VmControl,
  exited: Promise<VmExit>,
  graceMs: number,
  log: Logger,
): Promise<void> {
  const deadline = performance.now() + graceMs;
  for (let left = graceMs; left > 0; left = deadline - performance.now()) {
    try {
      const timeoutMs = Math.min(left, COMMAND_TIMEOUT_MS);
      if ((await control.state(timeoutMs)) === "paused") await control.resume(timeoutMs);
      await control.pressPowerButton(timeoutMs);
    } catch (error) {
      // It may be ending at this moment; otherwise there is nobody to wait for.
      if (await settlesWithin(exited, Math.min(left, PRESS_INTERVAL_MS))) return;
      log.warn("the power button could not be pressed", { error: describeError(error) });
      return;
    }
    if (await settlesWithin(exited, Math.min(left, PRESS_INTERVAL_MS))) return;
  }
  log.info("the guest did not power off in time, ending it by force", { graceMs });
}

async function endByForce(
  control: VmControl,
  process: HypervisorProcess,
  exited: Promise<VmExit>,
  log: Logger,
): Promise<void> {
  try {
    await control.quit(QUIT_TIMEOUT_MS);
    if (await settlesWithin(exited, QUIT_TIMEOUT_MS)) return;
  } catch (error) {
    // It may end before it has answered; whatever the reason, signals are next.
    log.debug("the hypervisor did not take the command to quit", { error: messageOf(error) });
  }
  await process.terminate(TERMINATE_TIMEOUT_MS);
  await settlesWithin(exited, COMMAND_TIMEOUT_MS);
}
