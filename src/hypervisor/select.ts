/** Which hypervisor runs the VMs of this host. */
import { describeError, FleetingdError } from "../errors.ts";
import type { Logger } from "../log.ts";
import type { Accelerator } from "./accelerator.ts";
import { findCloudHypervisor } from "./cloud-hypervisor/binary.ts";
import { CLOUD_HYPERVISOR } from "./cloud-hypervisor/control.ts";
import { createCloudHypervisorDriver } from "./cloud-hypervisor/driver.ts";
import type { Confinement } from "./confinement.ts";
import type { HypervisorDriver } from "./driver.ts";
import { adoptVm, listVms } from "./find-vms.ts";
import { QEMU } from "./qemu/control.ts";
import { createQemuDriver } from "./qemu/driver.ts";

export type HypervisorChoice = "auto" | "cloud-hypervisor" | "qemu";

export interface SelectOptions {
  choice: HypervisorChoice;
  accelerator: Accelerator;
  confinement?: Confinement | undefined;
  /** The group of the files that VMs of several users read; left out: no VM has a user of its own. */
  readers?: number | undefined;
  logger: Logger;
}

const KINDS = [CLOUD_HYPERVISOR, QEMU];

/**
 * New VMs run under the chosen hypervisor; those that another one runs since an earlier choice are found and taken over as well.
 * @throws FleetingdError MISSING_PROGRAM, UNAVAILABLE, HYPERVISOR_FAILED
 */
export async function openHypervisor(options: SelectOptions): Promise<HypervisorDriver> {
  const { logger } = options;
  const driver = await chooseDriver(options);
  return {
    ...driver,
    adopt: (vm) => adoptVm(KINDS, vm, logger),
    list: (...parents) => listVms(KINDS, parents),
  };
}

async function chooseDriver(options: SelectOptions): Promise<HypervisorDriver> {
  const { choice, accelerator, logger } = options;
  const qemu = (): Promise<HypervisorDriver> => createQemuDriver(options);
  if (choice === "qemu") return qemu();
  if (choice === "cloud-hypervisor") {
    if (accelerator.kind === "kvm") return createCloudHypervisorDriver(options);
    throw new FleetingdError("UNAVAILABLE", `Cloud Hypervisor needs KVM. ${accelerator.reason}`, {
      hint: 'Set hypervisor = "auto" or "qemu" to emulate VMs, which is slow.',
    });
  }
  if (accelerator.kind !== "kvm" || (await findCloudHypervisor()) === undefined) return qemu();
  try {
    return await createCloudHypervisorDriver(options);
  } catch (error) {
    logger.warn("Cloud Hypervisor is installed but can't be used, so QEMU runs the VMs", {
      reason: describeError(error),
    });
    return qemu();
  }
}
