/** The QEMU driver: KVM where it works, emulation everywhere else. */
import { constants } from "node:fs";
import { access } from "node:fs/promises";
import { systemErrorCode } from "../../errors.ts";
import type { Logger } from "../../log.ts";
import { type Accelerator, detectAccelerator } from "../accelerator.ts";
import { checkSpec } from "../check-spec.ts";
import { findConfinement } from "../confinement.ts";
import type { HypervisorDriver } from "../driver.ts";
import { adoptVm, listVms } from "../find-vms.ts";
import { launchVm } from "../launch.ts";
import { type QemuSettings, qemuArguments } from "./arguments.ts";
import { QEMU } from "./control.ts";
import { loadDevices } from "./migration.ts";
import { findQemu, isAtLeast } from "./platform.ts";
import { snapshotPlatform } from "./snapshot-platform.ts";

export interface QemuDriverOptions {
  logger: Logger;
  /** Detected if it is not given. */
  accelerator?: Accelerator | undefined;
  /** How long QEMU may take from its start to its first answer. Default 30 s. */
  startTimeoutMs?: number;
}

const START_TIMEOUT_MS = 30_000;
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
  const launching = { kind: QEMU, logger, startTimeoutMs };
  const execution = accelerator.kind === "kvm" ? "with KVM" : "emulating (TCG)";

  return {
    name: "qemu",
    description: `QEMU ${qemu.version} ${execution}, ${qemu.machine}`,
    snapshots: {
      platform: await snapshotPlatform(qemu, accelerator),
      async restore(spec, snapshot, signal) {
        await checkSpec(spec);
        return launchVm([...command, ...qemuArguments(spec, settings, snapshot)], spec, {
          ...launching,
          signal,
          begin: ({ monitor }, timeoutMs) => {
            const { directory } = spec;
            return loadDevices({ directory, monitor }, snapshot.stateDirectory, timeoutMs);
          },
        });
      },
    },
    async start(spec, signal) {
      await checkSpec(spec);
      return launchVm([...command, ...qemuArguments(spec, settings)], spec, { ...launching, signal });
    },
    adopt: (vm) => adoptVm(QEMU, vm, logger),
    list: (parentDirectory) => listVms(QEMU, parentDirectory),
  };
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
