/** A VM under QEMU is told things over its monitor. */
import { join } from "node:path";
import * as z from "zod";
import type { VmState } from "../driver.ts";
import type { ControlOptions, HypervisorKind, VmControl } from "../vm-control.ts";
import { CHANNEL_SOCKET, parseVmProcess, QMP_SOCKET } from "./arguments.ts";
import { openChannel, removeChannel } from "./channel.ts";
import { watchEvents } from "./guest-events.ts";
import { saveDevices } from "./migration.ts";
import { createMonitor, type Monitor } from "./monitor.ts";

export interface QemuControl extends VmControl {
  readonly monitor: Monitor;
}

const MIB = 1024 ** 2;

export const QEMU: HypervisorKind<QemuControl> = {
  title: "QEMU",
  socketName: QMP_SOCKET,
  channelSocketName: CHANNEL_SOCKET,
  consoleIsOutput: false,
  hints: [
    {
      pattern: /Cannot allocate memory|cannot set up guest memory/i,
      hint: "Give VMs less memory, or run fewer of them.",
    },
    { pattern: /Failed to get .*lock/, hint: "Another process, perhaps another VM, has this disk open." },
    {
      pattern: /could not configure .*Device or resource busy/,
      hint: "Another process uses this network device.",
    },
    {
      pattern: /Could not access KVM kernel module/,
      hint: "Check that /dev/kvm is there and may be opened.",
    },
    { pattern: /No space left on device/, hint: "Make room on the disk that holds the VMs." },
  ],
  // What the emulated processor lacks.
  isNoise: (line) => line.includes("warning: TCG doesn't support requested feature"),
  parseProcess: parseVmProcess,
  control: createQemuControl,
};

const statusSchema = z.object({ status: z.string() });
const balloonSchema = z.object({ actual: z.number() });
const memorySchema = z.object({ "base-memory": z.number() });
const STOPPED_STATES = new Set(["shutdown", "guest-panicked", "internal-error"]);

function createQemuControl({ directory, logger, onLost }: ControlOptions): QemuControl {
  const watcher = watchEvents(logger);
  const monitor = createMonitor({
    socketPath: join(directory, QMP_SOCKET),
    onEvent: watcher.onEvent,
    onLost,
  });
  const tell = async (command: string, timeoutMs: number): Promise<void> =>
    void (await monitor.execute(command, { timeoutMs }));
  const memoryBytes = async (timeoutMs: number): Promise<number> =>
    memorySchema.parse(await monitor.execute("query-memory-size-summary", { timeoutMs }))["base-memory"];

  return {
    monitor,
    open: (timeoutMs) => monitor.open(timeoutMs),
    async state(timeoutMs): Promise<VmState> {
      const { status } = statusSchema.parse(await monitor.execute("query-status", { timeoutMs }));
      if (status === "running") return "running";
      return STOPPED_STATES.has(status) ? "stopped" : "paused";
    },
    pressPowerButton: (timeoutMs) => tell("system_powerdown", timeoutMs),
    pause: (timeoutMs) => tell("stop", timeoutMs),
    resume: (timeoutMs) => tell("cont", timeoutMs),
    async resizeBalloon(balloonMiB, timeoutMs) {
      // QEMU is told what the guest keeps.
      const value = (await memoryBytes(timeoutMs)) - balloonMiB * MIB;
      await monitor.execute("balloon", { timeoutMs, arguments: { value } });
    },
    async balloonMiB(timeoutMs) {
      const { actual } = balloonSchema.parse(await monitor.execute("query-balloon", { timeoutMs }));
      return ((await memoryBytes(timeoutMs)) - actual) / MIB;
    },
    saveState: (stateDirectory, timeoutMs) => saveDevices({ directory, monitor }, stateDirectory, timeoutMs),
    openChannel: (timeoutMs) => openChannel(directory, timeoutMs),
    removeChannel: (timeoutMs) => removeChannel({ directory, monitor }, timeoutMs),
    quit: (timeoutMs) => tell("quit", timeoutMs),
    diskFailed: watcher.diskFailed,
    complete: async (exit) => watcher.complete(exit),
    close: () => monitor.close(),
  };
}
