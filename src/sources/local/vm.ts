/** What the local source keeps of a VM, and the pure description that a hypervisor gets. */
import { createHash } from "node:crypto";
import { join } from "node:path";
import * as z from "zod";
import { cloneKernelArguments } from "../../cloudinit/kernel-arguments.ts";
import type { BootProfile } from "../../cloudinit/prebuild.ts";
import { SEED_DISK_SERIAL } from "../../cloudinit/seed.ts";
import { FleetingdError } from "../../errors.ts";
import type { DiskSpec, VmLimits, VmSpec } from "../../hypervisor/driver.ts";
import type { GoldenImage } from "../../images/image.ts";
import { parseVmSubnet, parseVmSubnet6, type SlotNetwork, slotNetwork } from "../../network/slots.ts";
import { LOCAL, type SourceData, sourceOf } from "../source.ts";

const localDataSchema = z.object({
  /** In CIDR form; with the slot it gives the VM's whole network. */
  subnet: z.string(),
  /** Left out: it has no IPv6. */
  subnet6: z.string().optional(),
  slot: z.number().int().nonnegative(),
  /** The folder of the clone, on the golden images' file system. */
  cloneDirectory: z.string(),
  goldenImage: z.string(),
  /** Of the snapshot that it goes on from; left out if it has booted. */
  snapshot: z.string().optional(),
  /** What the host has promised it. */
  memoryMiB: z.number().optional(),
  vcpus: z.number().optional(),
  /** The uid that its process has; left out: root's. */
  user: z.number().int().positive().optional(),
  process: z.object({ pid: z.number().int(), startTicks: z.number() }).optional(),
});
export type LocalData = z.infer<typeof localDataSchema>;

/** Undefined if nothing was made yet, or somewhere else. @throws FleetingdError CORRUPT */
export function parseLocalData(id: string, data: SourceData): LocalData | undefined {
  if (Object.keys(data).length === 0 || sourceOf(data) !== LOCAL) return undefined;
  const parsed = localDataSchema.safeParse(data);
  if (parsed.success) return parsed.data;
  throw new FleetingdError("CORRUPT", `the record of ${id} does not describe a local VM`, {
    cause: parsed.error,
  });
}

const ROOT_SERIAL = "fleetingd-root";

/** Where the clones of a disk directory are, whoever's they are. */
export const clonesDirectory = (diskDirectory: string): string => join(diskDirectory, "clones");

/** How the names of our clones end: another daemon may have its own in the same disk directory. */
export function cloneSuffix(stateDirectory: string): string {
  return `.${createHash("sha256").update(stateDirectory).digest("hex").slice(0, 8)}`;
}

/** The TAP of a VM of this host; undefined for one that has none yet, or is elsewhere. */
export function tapNameOf(data: SourceData): string | undefined {
  const local = localDataSchema.safeParse(data);
  return local.success && sourceOf(data) === LOCAL ? networkOf(local.data).tapName : undefined;
}

/** The network of a VM that may have been made by an earlier configuration. */
export function networkOf(data: LocalData): SlotNetwork {
  const subnet6 = data.subnet6 === undefined ? undefined : parseVmSubnet6(data.subnet6);
  return slotNetwork(parseVmSubnet(data.subnet), data.slot, subnet6);
}

export interface VmParts {
  id: string;
  directory: string;
  machineId: string;
  vcpus: number;
  memoryMiB: number;
  console: "serial" | "virtio";
  bootProfile: BootProfile;
  emulated: boolean;
  golden: GoldenImage;
  clone: Pick<DiskSpec, "path" | "format">;
  network: SlotNetwork;
  user: number | undefined;
  limits: ProcessLimits;
}

/** What of a process's limits is configured; the others follow from the VM's size. */
export type ProcessLimits = Omit<VmLimits, "memoryMiB" | "tasks"> & { memoryOverheadMiB: number };

/** QEMU has a thread for each core, one that does the rest, and up to 64 that wait for disks. */
const TASKS_BESIDES_CORES = 128;

/** The limits of the process of a VM of this size. */
export function limitsOf(
  { memoryMiB, vcpus }: Pick<VmSpec, "memoryMiB" | "vcpus">,
  { memoryOverheadMiB, ...limits }: ProcessLimits,
): VmLimits {
  return { ...limits, memoryMiB: memoryMiB + memoryOverheadMiB, tasks: vcpus + TASKS_BESIDES_CORES };
}

/** A template or one of its clones: the same machine, but for what is its own. */
export interface SnapshotVmParts {
  id: string;
  directory: string;
  vcpus: number;
  memoryMiB: number;
  console: "serial" | "virtio";
  golden: GoldenImage;
  disk: Pick<DiskSpec, "path" | "format">;
  network: SlotNetwork;
  kernelArguments: readonly string[];
  user: number | undefined;
  limits: ProcessLimits;
}

export function snapshotVmSpec(parts: SnapshotVmParts): VmSpec {
  const { golden, network, disk, limits, ...rest } = parts;
  return {
    ...rest,
    limits: limitsOf(parts, limits),
    kernelPath: golden.kernelPath,
    initrdPath: golden.initrdPath,
    disks: [{ ...disk, readOnly: false, serial: ROOT_SERIAL }],
    nics: [{ tapName: network.tapName, macAddress: network.macAddress }],
    hasChannel: true,
  };
}

/** Where a VM's seed disk lies in its directory. */
export const seedPath = (directory: string): string => join(directory, "seed.iso");

export function vmSpec(parts: VmParts): VmSpec {
  const { golden } = parts;
  return {
    id: parts.id,
    directory: parts.directory,
    vcpus: parts.vcpus,
    memoryMiB: parts.memoryMiB,
    kernelPath: golden.kernelPath,
    initrdPath: golden.initrdPath,
    kernelArguments: cloneKernelArguments(golden, parts),
    disks: [
      { ...parts.clone, readOnly: false, serial: ROOT_SERIAL },
      { path: seedPath(parts.directory), format: "raw", readOnly: true, serial: SEED_DISK_SERIAL },
    ],
    nics: [{ tapName: parts.network.tapName, macAddress: parts.network.macAddress }],
    console: parts.console,
    user: parts.user,
    limits: limitsOf(parts, parts.limits),
  };
}
