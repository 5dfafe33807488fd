/** The kernel command line without `console=`, which is the hypervisor driver's to choose. */
import type { BootProfile } from "./prebuild.ts";

export interface BootDisk {
  /** What `root=` names. */
  rootDevice: string;
  /** More for the command line, for images that need it. */
  kernelArguments: readonly string[];
}

// net.ifnames=0: the one card is eth0 before and after udev. panic=-1: a crashed guest ends its hypervisor.
const COMMON = ["rw", "quiet", "net.ifnames=0", "panic=-1", "cryptomgr.notests"] as const;
/**
 * Half a second of every emulated boot: an emulated CPU does not speculate, its clock is the host's, and where the kernel lies in memory
 * is no secret from a job that is root.
 */
const EMULATED = ["mitigations=off", "nokaslr", "tsc=reliable", "no_timer_check"] as const;
/** To a login first, and then to the whole system. */
const FAST = ["systemd.unit=fleetingd-early.target", "systemd.show_status=false", "fsck.mode=skip"];

/** For the prebuild, and for whoever boots a base image with whole cloud-init. */
export function prebuildKernelArguments(base: BootDisk, machine: { emulated: boolean }): string[] {
  return common(base, machine.emulated);
}

/** For a clone of a golden image. */
export function cloneKernelArguments(
  golden: BootDisk,
  clone: { bootProfile: BootProfile; machineId: string; emulated: boolean },
): string[] {
  const args = [
    ...common(golden, clone.emulated),
    // So that PID 1 knows it from the start; the fast image's `identity` writes the same into the file.
    `systemd.machine_id=${clone.machineId}`,
  ];
  return clone.bootProfile === "compatible" ? args : [...args, ...FAST];
}

/** For a template of clones, which gets its identity over the channel. What is written here all of its clones can read. */
export function templateKernelArguments(golden: BootDisk, machine: { emulated: boolean }): string[] {
  return [...common(golden, machine.emulated), "fleetingd.channel", ...FAST];
}

function common(disk: BootDisk, emulated: boolean): string[] {
  return [`root=${disk.rootDevice}`, ...COMMON, ...(emulated ? EMULATED : []), ...disk.kernelArguments];
}
