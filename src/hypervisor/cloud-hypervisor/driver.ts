/** The Cloud Hypervisor driver: one VMM process a VM, which is told over its API what VM it is. */
import { open, writeFile } from "node:fs/promises";
import { FleetingdError } from "../../errors.ts";
import type { Logger } from "../../log.ts";
import { checkSpec } from "../check-spec.ts";
import { type Confinement, findConfinement, strippingWords } from "../confinement.ts";
import type { HypervisorDriver, RunningVm, VmSpec } from "../driver.ts";
import { adoptVm, listVms } from "../find-vms.ts";
import { launchVm } from "../launch.ts";
import { processorHash } from "../processor.ts";
import type { CloudHypervisorApi } from "./api.ts";
import { eventsPath, vmmArguments } from "./arguments.ts";
import { backingFilesOf } from "./backing-files.ts";
import { findCloudHypervisor, PROGRAM, probeCloudHypervisor } from "./binary.ts";
import { CLOUD_HYPERVISOR } from "./control.ts";
import { restoreState } from "./snapshot.ts";
import { type VmConfig, vmConfig } from "./vm-config.ts";

export interface CloudHypervisorOptions {
  logger: Logger;
  /** Found out if it is not given. */
  confinement?: Confinement | undefined;
  /** How long it may take from the process's start until the guest runs. Default 30 s. */
  startTimeoutMs?: number;
}

const START_TIMEOUT_MS = 30_000;
const MIB = 1024 ** 2;

/**
 * @throws FleetingdError MISSING_PROGRAM; UNAVAILABLE with a version that is too old; HYPERVISOR_FAILED if it doesn't run on this
 *   host, as without KVM.
 */
export async function createCloudHypervisorDriver(
  options: CloudHypervisorOptions,
): Promise<HypervisorDriver> {
  const { logger, startTimeoutMs = START_TIMEOUT_MS } = options;
  const path = await findCloudHypervisor();
  if (path === undefined) {
    throw new FleetingdError("MISSING_PROGRAM", `the program ${PROGRAM} is not installed`, {
      hint: 'Put a release of it on PATH (docs/hypervisors.md), or set hypervisor = "qemu".',
    });
  }
  const confinement = options.confinement ?? (await findConfinement(logger));
  const can = await probeCloudHypervisor([...(confinement.canStrip ? strippingWords([]) : []), path], logger);

  type Begin = (api: CloudHypervisorApi, config: VmConfig, timeoutMs: number) => Promise<void>;
  const launch = async (spec: VmSpec, signal: AbortSignal | undefined, begin: Begin): Promise<RunningVm> => {
    await checkSpec(spec);
    if (spec.directory.includes('"')) {
      throw new FleetingdError(
        "INVALID_ARGUMENT",
        `the VM ${spec.id} cannot start: ${PROGRAM} takes no quotation mark in the path ${spec.directory}`,
      );
    }
    const config = vmConfig(spec, can, await backingFilesOf(spec.disks));
    // Followed from the beginning, so it is there before its writer.
    await writeFile(eventsPath(spec), "", { mode: 0o600 });
    if (spec.memoryPath !== undefined) await makeMemory(spec.memoryPath, spec.memoryMiB);
    return launchVm([...confinement.words(spec, []), path, ...vmmArguments(spec)], spec, {
      kind: CLOUD_HYPERVISOR,
      logger,
      startTimeoutMs,
      signal,
      begin: ({ api }, timeoutMs) => begin(api, config, timeoutMs),
    });
  };

  return {
    name: "cloud-hypervisor",
    description: `Cloud Hypervisor ${can.version} with KVM${can.landlock ? "" : ", without Landlock"}`,
    snapshots: can.snapshots
      ? {
          platform: ["cloud-hypervisor", can.version, "kvm", await processorHash()].join(" "),
          restore: (spec, snapshot, signal) =>
            launch(spec, signal, (api, config, timeoutMs) =>
              restoreState(api, { spec, config }, snapshot, timeoutMs),
            ),
        }
      : undefined,
    start: (spec, signal) =>
      launch(spec, signal, async (api, config, timeoutMs) => {
        await api.request("vm.create", config, timeoutMs);
        await api.act("vm.boot", timeoutMs);
      }),
    adopt: (vm) => adoptVm([CLOUD_HYPERVISOR], vm, logger),
    list: (...parents) => listVms([CLOUD_HYPERVISOR], parents),
  };
}

/** It maps the file as it is: what is beyond its end would be a SIGBUS. */
async function makeMemory(path: string, memoryMiB: number): Promise<void> {
  const file = await open(path, "a", 0o600);
  try {
    await file.truncate(memoryMiB * MIB);
  } finally {
    await file.close();
  }
}
