/**
 * One VM under QEMU.
 *
 *     running ──power button, guest's poweroff──> gone
 *        └── quit ── SIGTERM ── SIGKILL ────────> gone ── monitor closed, socket removed ── exited
 *
 * The monitor's end makes us look at the process; only the process's own end counts.
 */
import { join } from "node:path";
import { z } from "zod";
import { describeError, messageOf } from "../../errors.ts";
import { removeTree } from "../../host/files.ts";
import type { Logger } from "../../log.ts";
import { CONSOLE_LOG, HYPERVISOR_LOG, type RunningVm, type VmExit, type VmState } from "../driver.ts";
import { type HypervisorProcess, settlesWithin } from "../hypervisor-process.ts";
import { keepLogsSmall } from "../output.ts";
import { QMP_SOCKET } from "./arguments.ts";
import { openChannel, removeChannel } from "./channel.ts";
import { watchEvents } from "./guest-events.ts";
import { saveDevices } from "./migration.ts";
import { createMonitor, type Monitor } from "./monitor.ts";

export interface QemuVm extends RunningVm {
  readonly monitor: Monitor;
}

const COMMAND_TIMEOUT_MS = 5_000;
const QUIT_TIMEOUT_MS = 2_000;
const TERMINATE_TIMEOUT_MS = 2_000;
/** A guest that is still booting does not hear the button, so it is pressed again. */
const PRESS_INTERVAL_MS = 3_000;

/** Takes charge of a QEMU process: its monitor, its logs, its end. */
export function manageVm(
  vm: { id: string; directory: string },
  process: HypervisorProcess,
  logger: Logger,
): QemuVm {
  const log = logger.child({ vm: vm.id });
  const socketPath = join(vm.directory, QMP_SOCKET);
  const watcher = watchEvents(log);
  const monitor = createMonitor({
    socketPath,
    onEvent: watcher.onEvent,
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
    monitor.close();
    await removeTree(socketPath).catch((error: unknown) =>
      log.warn("a stopped VM's socket could not be removed", { error: messageOf(error) }),
    );
    return watcher.complete(exit);
  });

  let ending: Promise<void> | undefined;
  return {
    id: vm.id,
    process: process.identity,
    exited,
    diskFailed: watcher.diskFailed,
    monitor,
    async state() {
      try {
        return isGone ? "stopped" : await queryState(monitor);
      } catch (error) {
        if (isGone) return "stopped";
        throw error;
      }
    },
    async stop({ graceMs }) {
      if (graceMs > 0 && !isGone) await askToPowerOff(monitor, exited, graceMs, log);
      if (isGone) return void (await exited);
      // All callers share one end by force; one that failed may be tried again.
      ending ??= endByForce(monitor, process, exited, log).finally(() => {
        ending = undefined;
      });
      await ending;
    },
    saveState: (stateDirectory, { timeoutMs }) =>
      saveDevices({ directory: vm.directory, monitor }, stateDirectory, timeoutMs),
    openChannel: ({ timeoutMs }) => openChannel(vm.directory, timeoutMs),
    removeChannel: ({ timeoutMs }) => removeChannel({ directory: vm.directory, monitor }, timeoutMs),
  };
}

const statusSchema = z.object({ status: z.string() });
const STOPPED_STATES = new Set(["shutdown", "guest-panicked", "internal-error"]);

async function queryState(monitor: Monitor): Promise<VmState> {
  const answer = await monitor.execute("query-status", { timeoutMs: COMMAND_TIMEOUT_MS });
  const { status } = statusSchema.parse(answer);
  if (status === "running") return "running";
  return STOPPED_STATES.has(status) ? "stopped" : "paused";
}

async function askToPowerOff(
  monitor: Monitor,
  exited: Promise<VmExit>,
  graceMs: number,
  log: Logger,
): Promise<void> {
  const deadline = performance.now() + graceMs;
  for (let left = graceMs; left > 0; left = deadline - performance.now()) {
    try {
      await monitor.execute("system_powerdown", { timeoutMs: Math.min(left, COMMAND_TIMEOUT_MS) });
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
  monitor: Monitor,
  process: HypervisorProcess,
  exited: Promise<VmExit>,
  log: Logger,
): Promise<void> {
  try {
    await monitor.execute("quit", { timeoutMs: QUIT_TIMEOUT_MS });
    if (await settlesWithin(exited, QUIT_TIMEOUT_MS)) return;
  } catch (error) {
    // QEMU may end before it has answered; whatever the reason, signals are next.
    log.debug("QEMU did not take the command to quit", { error: messageOf(error) });
  }
  await process.terminate(TERMINATE_TIMEOUT_MS);
  await settlesWithin(exited, COMMAND_TIMEOUT_MS);
}
