/** The two ways in which a VM begins: it boots a golden image, or goes on from a snapshot. */
import { dirname, join } from "node:path";
import { writeSeed } from "../../cloudinit/iso.ts";
import { cloneKernelArguments } from "../../cloudinit/kernel-arguments.ts";
import type { BootProfile } from "../../cloudinit/prebuild.ts";
import { renderIdentity, renderSeed } from "../../cloudinit/seed.ts";
import { FleetingdError } from "../../errors.ts";
import { explainDiskFull } from "../../host/disk-full.ts";
import { ensureDirectory, removeTree } from "../../host/files.ts";
import type { RunningVm } from "../../hypervisor/driver.ts";
import { type Clone, type CloneSource, createClone } from "../../images/clones.ts";
import type { GoldenImage, SnapshotImage } from "../../images/image.ts";
import type { SlotNetwork } from "../../network/slots.ts";
import { openGuestChannel } from "./guest-channel.ts";
import type { LocalHost } from "./host.ts";
import { type Identity, seedInput } from "./identity.ts";
import { type ProcessLimits, seedPath, snapshotVmSpec, vmSpec } from "./vm.ts";
import { letPass } from "./vm-user.ts";
import { whileWanted } from "./while-wanted.ts";

export interface VmOrder {
  id: string;
  /** The VM's own folder. */
  directory: string;
  cloneDirectory: string;
  golden: GoldenImage;
  network: SlotNetwork;
  dnsServers: readonly string[];
  identity: Identity;
  vcpus: number;
  memoryMiB: number;
  console: "serial" | "virtio";
  bootProfile: BootProfile;
  user: number | undefined;
  limits: ProcessLimits;
  signal: AbortSignal;
}

/** In a clone's folder. */
export const CLONE_DISK = "disk";
const RESUME_TIMEOUT_MS = 30_000;
const CHANNEL_TIMEOUT_MS = 10_000;

/** Makes the VM's disk of what it begins with, instead of one that there may be. */
export async function makeDisk(order: VmOrder, source: CloneSource): Promise<Clone> {
  const path = join(order.cloneDirectory, CLONE_DISK);
  try {
    await ensureDirectory(order.cloneDirectory);
    await removeTree(path);
    return await createClone(source, path);
  } catch (error) {
    throw explainDiskFull(error, "another clone", order.cloneDirectory);
  }
}

/** Makes the disk from which a VM that boots reads who it is. */
export function makeSeed({ identity, directory, network, dnsServers, signal }: VmOrder): Promise<void> {
  return writeSeed(seedPath(directory), renderSeed(seedInput(identity, network, dnsServers)), signal);
}

/** Returns when the hypervisor runs. */
export async function bootVm(host: LocalHost, order: VmOrder, disk: Clone): Promise<RunningVm> {
  const { machineId } = order.identity;
  const spec = vmSpec({ ...order, machineId, clone: disk, emulated: host.emulated });
  await letPassTo(host, order);
  return host.hypervisor.start(spec, order.signal);
}

/**
 * Returns when the guest has become who it is to be and has lost its channel: nobody can have logged in before.
 * @throws FleetingdError; no process is left then
 */
export async function resumeVm(
  host: LocalHost,
  order: VmOrder,
  disk: Clone,
  snapshot: SnapshotImage,
): Promise<RunningVm> {
  const { snapshots } = host.hypervisor;
  if (snapshots === undefined) throw new FleetingdError("INTERNAL", "this hypervisor restores nothing");
  const { identity, golden, network, dnsServers, signal } = order;
  const clone = {
    machineId: identity.machineId,
    bootProfile: order.bootProfile,
    emulated: host.emulated,
  };
  const { id, directory, vcpus, memoryMiB, console } = order;
  const spec = snapshotVmSpec({
    ...{ id, directory, vcpus, memoryMiB, console, golden, network, disk },
    ...{ user: order.user, limits: order.limits },
    // These count from its first reboot on.
    kernelArguments: cloneKernelArguments(golden, clone),
  });
  await letPassTo(host, order, snapshot);
  const vm = await snapshots.restore(spec, snapshot, signal);
  try {
    await whileWanted(vm, signal, async () => {
      const channel = await openGuestChannel(vm, CHANNEL_TIMEOUT_MS);
      try {
        await channel.become(renderIdentity(seedInput(identity, network, dnsServers)), RESUME_TIMEOUT_MS);
      } finally {
        channel.close();
      }
      await vm.removeChannel({ timeoutMs: CHANNEL_TIMEOUT_MS });
    });
    return vm;
  } catch (error) {
    await vm.stop({ graceMs: 0 });
    throw error;
  }
}

function letPassTo(host: LocalHost, order: VmOrder, snapshot?: SnapshotImage): Promise<void> {
  const { golden, cloneDirectory, directory } = order;
  const folders = [
    dirname(directory),
    cloneDirectory,
    golden.directory,
    ...(snapshot === undefined ? [] : [dirname(snapshot.memoryPath)]),
  ];
  // The folder of the clones is in the pool's.
  return letPass(host, dirname(dirname(cloneDirectory)), folders);
}
