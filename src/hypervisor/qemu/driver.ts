/** The QEMU driver: KVM where it works, emulation everywhere else. */
import { constants } from "node:fs";
import { access } from "node:fs/promises";
import { join } from "node:path";
import { systemErrorCode } from "../../errors.ts";
import type { Logger } from "../../log.ts";
import { type Accelerator, detectAccelerator } from "../accelerator.ts";
import { checkSpec } from "../check-spec.ts";
import { type Capability, type Confinement, findConfinement } from "../confinement.ts";
import type { HypervisorDriver, VmSpec } from "../driver.ts";
import { adoptVm, listVms } from "../find-vms.ts";
import { launchVm } from "../launch.ts";
import { becomesUser, type Cloned, type QemuSettings, qemuArguments } from "./arguments.ts";
import { QEMU } from "./control.ts";
import { loadDevices, STATE_FILE } from "./migration.ts";
import { findQemu, isAtLeast } from "./platform.ts";
import { snapshotPlatform } from "./snapshot-platform.ts";

export interface QemuDriverOptions {
  logger: Logger;
  /** Detected if it is not given. */
  accelerator?: Accelerator | undefined;
  /** Found out if it is not given. */
  confinement?: Confinement | undefined;
  /** How long QEMU may take from its start to its first answer. Default 30 s. */
  startTimeoutMs?: number;
}

const START_TIMEOUT_MS = 30_000;
const READ_ONLY_MEMORY_FILE = [8, 2];
/** Given up together with root's uid, before the guest runs. */
const TO_BECOME_A_USER: readonly Capability[] = ["setuid", "setgid", "sys_chroot"];

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
    version: qemu.version,
    accelerator: accelerator.kind,
    vhostNet: accelerator.kind === "kvm" && (await isUsable("/dev/vhost-net")),
    readOnlyMemoryFile: isAtLeast(qemu.version, READ_ONLY_MEMORY_FILE),
  };
  const confinement = options.confinement ?? (await findConfinement(logger));
  const launching = { kind: QEMU, logger, startTimeoutMs };
  const commandOf = (spec: VmSpec, cloned?: Cloned): string[] => [
    ...confinement.words(spec, becomesUser(spec) ? TO_BECOME_A_USER : []),
    qemu.path,
    ...qemuArguments(spec, settings, cloned),
  ];
  const execution = accelerator.kind === "kvm" ? "with KVM" : "emulating (TCG)";

  return {
    name: "qemu",
    description: `QEMU ${qemu.version} ${execution}, ${qemu.machine}`,
    startsAsUser: false,
    snapshots: {
      platform: await snapshotPlatform(qemu, accelerator),
      mapsKernel: process.arch === "x64",
      async restore(spec, snapshot, signal) {
        await checkSpec(spec);
        return launchVm(commandOf(spec, snapshot), spec, {
          ...launching,
          signal,
          inputPath: join(snapshot.stateDirectory, STATE_FILE),
          begin: ({ monitor }, timeoutMs) => loadDevices(monitor, timeoutMs),
        });
      },
    },
    async start(spec, signal) {
      await checkSpec(spec);
      return launchVm(commandOf(spec), spec, { ...launching, signal });
    },
    adopt: (vm) => adoptVm([QEMU], vm, logger),
    list: (...parents) => listVms([QEMU], parents),
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
