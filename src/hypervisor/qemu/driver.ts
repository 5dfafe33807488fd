/** The QEMU driver: KVM where it works, emulation everywhere else. */
import { constants } from "node:fs";
import { access } from "node:fs/promises";
import { dirname, resolve } from "node:path";
import { messageOf, systemErrorCode } from "../../errors.ts";
import { isAlive, processArguments } from "../../host/process.ts";
import { listProcesses } from "../../host/process-list.ts";
import type { Logger } from "../../log.ts";
import { type Accelerator, detectAccelerator } from "../accelerator.ts";
import { findConfinement } from "../confinement.ts";
import type { HypervisorDriver, VmHandle } from "../driver.ts";
import { watchHypervisor } from "../hypervisor-process.ts";
import { isVmProcess, parseVmProcess, type QemuSettings, qemuArguments } from "./arguments.ts";
import { checkSpec } from "./check-spec.ts";
import { launchVm } from "./launch.ts";
import { findQemu, isAtLeast } from "./platform.ts";
import { snapshotPlatform } from "./snapshot-platform.ts";
import { isNoise } from "./start-failure.ts";
import { manageVm, type QemuVm } from "./vm.ts";

export interface QemuDriverOptions {
  logger: Logger;
  /** Detected if it is not given. */
  accelerator?: Accelerator | undefined;
  /** How long QEMU may take from its start to its first answer. Default 30 s. */
  startTimeoutMs?: number;
}

const START_TIMEOUT_MS = 30_000;
const ADOPT_TIMEOUT_MS = 5_000;
const READ_ONLY_MEMORY_FILE = [8, 2];

/**
 * @throws FleetingdError MISSING_PROGRAM with the package to install, or UNAVAILABLE on a host that QEMU cannot serve.
 */
export async function createQemuDriver(options: QemuDriverOptions): Promise<HypervisorDriver> {
  const { logger, startTimeoutMs = START_TIMEOUT_MS } = options;
  const qemu = await findQemu();
  const accelerator = options.accelerator ?? (await detectAccelerator({ logger }));
  const settings: QemuSettings = {
    platform: qemu.platform,
    machine: qemu.machine,
    accelerator: accelerator.kind,
    vhostNet: accelerator.kind === "kvm" && (await isUsable("/dev/vhost-net")),
    readOnlyMemoryFile: isAtLeast(qemu.version, READ_ONLY_MEMORY_FILE),
  };
  const command = [...(await findConfinement(logger)), qemu.path];
  const execution = accelerator.kind === "kvm" ? "with KVM" : "emulating (TCG)";

  return {
    name: "qemu",
    description: `QEMU ${qemu.version} ${execution}, ${qemu.machine}`,
    snapshots: {
      platform: await snapshotPlatform(qemu, accelerator),
      async restore(spec, snapshot, signal) {
        await checkSpec(spec);
        const { stateDirectory } = snapshot;
        const waiting = [...command, ...qemuArguments(spec, settings, snapshot)];
        return launchVm(waiting, spec, { logger, startTimeoutMs, signal, stateDirectory });
      },
    },
    async start(spec, signal) {
      await checkSpec(spec);
      const booting = [...command, ...qemuArguments(spec, settings)];
      return launchVm(booting, spec, { logger, startTimeoutMs, signal });
    },
    adopt: (vm) => adopt(vm, logger),
    list: listVms,
  };
}

async function adopt(handle: VmHandle, logger: Logger): Promise<QemuVm | undefined> {
  const argumentVector = await processArguments(handle.process.pid);
  if (argumentVector === undefined || !isVmProcess(argumentVector, handle.id, handle.directory))
    return undefined;
  // Last, so that the arguments were those of the very process that the record names.
  if (!(await isAlive(handle.process))) return undefined;
  const vm = manageVm(handle, watchHypervisor(handle.process, handle.directory, isNoise), logger);
  try {
    await vm.monitor.open(ADOPT_TIMEOUT_MS);
  } catch (error) {
    if (!(await isAlive(handle.process))) return undefined;
    logger.warn("a VM of an earlier run lives but does not answer; it can only be stopped", {
      vm: handle.id,
      error: messageOf(error),
    });
  }
  return vm;
}

async function listVms(parentDirectory: string): Promise<VmHandle[]> {
  const found: VmHandle[] = [];
  for (const { identity, arguments: argumentVector } of await listProcesses()) {
    const vm = parseVmProcess(argumentVector);
    if (vm !== undefined && dirname(vm.directory) === resolve(parentDirectory)) {
      found.push({ ...vm, process: identity });
    }
  }
  return found;
}

async function isUsable(path: string): Promise<boolean> {
  try {
    await access(path, constants.R_OK | constants.W_OK);
    return true;
  } catch (error) {
    if (systemErrorCode(error) === undefined) throw error;
    return false;
  }
}
