/** The Cloud Hypervisor driver: one VMM process a VM, which is told over its API what VM it is. */
import { open, writeFile } from "node:fs/promises";
import { FleetingdError } from "../../errors.ts";
import type { Logger } from "../../log.ts";
import { checkSpec } from "../check-spec.ts";
import { type Confinement, findConfinement, type ProcessUser, strippingWords } from "../confinement.ts";
import type { HypervisorDriver, RunningVm, Snapshot, VmSpec } from "../driver.ts";
import { adoptVm, listVms } from "../find-vms.ts";
import { launchVm } from "../launch.ts";
import { processorHash } from "../processor.ts";
import { closeDirectory, deviceGroups, giveAccess } from "./access.ts";
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
  /** The group of the files that VMs of several users read; left out: no VM has a user of its own. */
  readers?: number | undefined;
  /** How long it may take from the process's start until the guest runs. Default 30 s. */
  startTimeoutMs?: number;
}

const START_TIMEOUT_MS = 30_000;
const MIB = 1024 ** 2;

/**
 * @throws FleetingdError MISSING_PROGRAM; UNAVAILABLE with a version that is too old, or devices that no user of a VM may open;
 *   HYPERVISOR_FAILED if it doesn't run on this host, as without KVM.
 */
export async function createCloudHypervisorDriver(
  options: CloudHypervisorOptions,
): Promise<HypervisorDriver> {
  const { logger, startTimeoutMs = START_TIMEOUT_MS, readers } = options;
  const path = await findCloudHypervisor();
  if (path === undefined) {
    throw new FleetingdError("MISSING_PROGRAM", `the program ${PROGRAM} is not installed`, {
      hint: 'Put a release of it on PATH (docs/hypervisors.md), or set hypervisor = "qemu".',
    });
  }
  const confinement = options.confinement ?? (await findConfinement(logger));
  const can = await probeCloudHypervisor([...(confinement.canStrip ? strippingWords([]) : []), path], logger);

  const groups =
    readers === undefined || !confinement.canStrip ? undefined : [readers, ...(await deviceGroups())];
  const userOf = ({ user: id, memoryPath }: VmSpec): ProcessUser | undefined =>
    id === undefined || memoryPath !== undefined || groups === undefined ? undefined : { id, groups };

  type Begin = (api: CloudHypervisorApi, config: VmConfig, timeoutMs: number) => Promise<void>;
  const launch = async (
    spec: VmSpec,
    { signal, snapshot }: { signal: AbortSignal | undefined; snapshot?: Snapshot },
    prepare: Begin,
    go: "vm.boot" | "vm.resume",
  ): Promise<RunningVm> => {
    await checkSpec(spec);
    if (spec.directory.includes('"')) {
      throw new FleetingdError(
        "INVALID_ARGUMENT",
        `the VM ${spec.id} cannot start: ${PROGRAM} takes no quotation mark in the path ${spec.directory}`,
      );
    }
    const backingFiles = await backingFilesOf(spec.disks);
    const config = vmConfig(spec, can, backingFiles);
    const user = userOf(spec);
    return launchVm([...confinement.words(spec, [], user), path, ...vmmArguments(spec)], spec, {
      kind: CLOUD_HYPERVISOR,
      logger,
      startTimeoutMs,
      signal,
      async prepare() {
        // Followed from the beginning, so it is there before its writer.
        await writeFile(eventsPath(spec), "", { mode: 0o600 });
        if (spec.memoryPath !== undefined) await makeMemory(spec.memoryPath, spec.memoryMiB);
        const { kernelPath, initrdPath } = spec;
        const shared = [kernelPath, initrdPath ?? [], snapshot?.memoryPath ?? [], backingFiles].flat();
        if (user !== undefined) await giveAccess(spec, user, { own: [eventsPath(spec)], shared });
      },
      async begin({ api }, timeoutMs) {
        await prepare(api, config, timeoutMs);
        if (user !== undefined) await closeDirectory(spec.directory);
        await api.act(go, timeoutMs);
      },
    });
  };

  return {
    name: "cloud-hypervisor",
    description: `Cloud Hypervisor ${can.version} with KVM${can.landlock ? "" : ", without Landlock"}`,
    snapshots: can.snapshots
      ? {
          platform: ["cloud-hypervisor", can.version, "kvm", await processorHash()].join(" "),
          mapsKernel: false,
          restore: (spec, snapshot, signal) =>
            launch(
              spec,
              { signal, snapshot },
              (api, config, timeoutMs) =>
                restoreState(api, { spec, config, user: userOf(spec)?.id }, snapshot, timeoutMs),
              "vm.resume",
            ),
        }
      : undefined,
    startsAsUser: groups !== undefined,
    start: (spec, signal) =>
      launch(
        spec,
        { signal },
        (api, config, timeoutMs) => api.request("vm.create", config, timeoutMs),
        "vm.boot",
      ),
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
