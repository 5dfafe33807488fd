/** A VM under Cloud Hypervisor is told things over its API. */
import { join } from "node:path";
import { messageOf } from "../../errors.ts";
import type { VmState } from "../driver.ts";
import type { ControlOptions, HypervisorKind, VmControl } from "../vm-control.ts";
import { type CloudHypervisorApi, createApi, type VmInfo } from "./api.ts";
import { API_SOCKET, eventsPath, parseVmmProcess } from "./arguments.ts";
import { openChannel, removeChannel } from "./channel.ts";
import { CHANNEL_SOCKET } from "./channel-address.ts";
import { watchEvents } from "./events.ts";
import { saveState } from "./snapshot.ts";

export interface CloudHypervisorControl extends VmControl {
  readonly api: CloudHypervisorApi;
}

const MIB = 1024 ** 2;
const QUIT_TIMEOUT_MS = 2_000;

export const CLOUD_HYPERVISOR: HypervisorKind<CloudHypervisorControl> = {
  title: "Cloud Hypervisor",
  socketName: API_SOCKET,
  channelSocketName: CHANNEL_SOCKET,
  consoleIsOutput: true,
  hints: [
    { pattern: /Cannot allocate memory/i, hint: "Give VMs less memory, or run fewer of them." },
    { pattern: /lock/i, hint: "Another process, perhaps another VM, has this disk open." },
    { pattern: /Resource busy|os error 16/, hint: "Another process uses this network device." },
    {
      pattern: /hypervisor interface|\/dev\/kvm/,
      hint: 'Check that /dev/kvm is there and may be opened, or set hypervisor = "qemu".',
    },
    {
      pattern: /permission denied|os error 13/i,
      hint: "VMs' own users (daemon.vm_uids) have to get through all folders above the VMs' files: chmod o+x lets them pass.",
    },
    { pattern: /No space left on device/, hint: "Make room on the disk that holds the VMs." },
  ],
  isNoise: (line) => /Kernel lacks CONFIG_SCHED_CORE|vCPU thread did not respond in/.test(line),
  parseProcess: parseVmmProcess,
  control: createControl,
};

const STATES: Readonly<Record<VmInfo["state"], VmState>> = {
  Created: "stopped",
  Running: "running",
  Shutdown: "stopped",
  Paused: "paused",
  BreakPoint: "paused",
};

function createControl({ id, directory, logger, onLost }: ControlOptions): CloudHypervisorControl {
  const api = createApi(join(directory, API_SOCKET), onLost);
  const watcher = watchEvents({ directory, eventsPath: eventsPath({ id, directory }) }, logger, () => {
    // Only its own process's end tells that a VM is gone; the VMM would wait for the guest to restart itself.
    api
      .act("vmm.shutdown", QUIT_TIMEOUT_MS)
      .then(onLost, (error: unknown) =>
        logger.warn("a VM whose guest panicked could not be ended", { error: messageOf(error) }),
      );
  });
  return {
    api,
    open: async (timeoutMs) => void (await api.ping(timeoutMs)),
    state: async (timeoutMs) => STATES[(await api.info(timeoutMs)).state],
    pressPowerButton: (timeoutMs) => api.act("vm.power-button", timeoutMs),
    pause: (timeoutMs) => api.act("vm.pause", timeoutMs),
    resume: (timeoutMs) => api.act("vm.resume", timeoutMs),
    resizeBalloon: (balloonMiB, timeoutMs) =>
      api.request("vm.resize", { desired_balloon: balloonMiB * MIB }, timeoutMs),
    balloonMiB: async (timeoutMs) => balloonBytes(await api.info(timeoutMs)) / MIB,
    saveState: (stateDirectory, timeoutMs) => saveState(api, stateDirectory, timeoutMs),
    openChannel: (timeoutMs) => openChannel(directory, timeoutMs),
    removeChannel: (timeoutMs) => removeChannel({ directory, api }, timeoutMs),
    quit: (timeoutMs) => api.act("vmm.shutdown", timeoutMs),
    diskFailed: watcher.diskFailed,
    complete: (exit) => watcher.complete(exit),
    close() {
      watcher.close();
      api.close();
    },
  };
}

function balloonBytes({ memory_actual_size: actual, config: { memory } }: VmInfo): number {
  const zones = (memory.zones ?? []).reduce((sum, { size }) => sum + size, 0);
  return memory.size + zones - actual;
}
