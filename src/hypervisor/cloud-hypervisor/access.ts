/**
 * What the user that a VMM runs as may open: it has no rights but these from its first instruction on.
 *
 * - Its own: the VM's disks that are written to, and the file of events.
 * - With the users of other VMs, by a group: what images have in common, to be read only.
 * - The VM's directory, in which it makes its sockets before the guest runs, and nothing afterwards.
 */
import { chmod, chown, stat } from "node:fs/promises";
import { FleetingdError } from "../../errors.ts";
import { ifExists } from "../../host/files.ts";
import type { ProcessUser } from "../confinement.ts";
import type { VmSpec } from "../driver.ts";

const ROOT = 0;
const DEVICES = ["/dev/kvm", "/dev/net/tun"];
const [MAY_MAKE_FILES, MAY_ONLY_PASS] = [0o770, 0o710];
const [GROUP_READS, GROUP_USES, ALL_USE] = [0o040, 0o060, 0o006];

/**
 * The groups by which a user that has no rights may use the devices that there are.
 * @throws FleetingdError UNAVAILABLE if there is no such group
 */
export async function deviceGroups(devices: readonly string[] = DEVICES): Promise<number[]> {
  const groups = new Set<number>();
  for (const path of devices) {
    const device = await ifExists(stat(path));
    if (device === undefined || (device.mode & ALL_USE) === ALL_USE) continue;
    const { mode, gid } = device;
    // Root's group may do too much for a VM to have it.
    if ((mode & GROUP_USES) !== GROUP_USES || gid === ROOT) throw notForUsers(path);
    groups.add(gid);
  }
  return [...groups];
}

/**
 * The first of the user's groups reads what VMs share.
 * @param files.own besides the disks that are written to
 * @param files.shared what it reads besides the disks: files that other VMs read as well; one that is not there is the VMM's to name
 */
export async function giveAccess(
  spec: VmSpec,
  { id: user, groups: [readers = user] }: ProcessUser,
  files: { own: readonly string[]; shared: readonly string[] },
): Promise<void> {
  const disks = (readOnly: boolean) => spec.disks.filter((disk) => disk.readOnly === readOnly);
  await chown(spec.directory, ROOT, user);
  await chmod(spec.directory, MAY_MAKE_FILES);
  for (const path of [...files.own, ...disks(false).map(({ path }) => path)]) {
    await ifExists(chown(path, user, user));
  }
  // What is only this VM's, as its seed, is in its directory, where no other user gets.
  for (const path of [...files.shared, ...disks(true).map(({ path }) => path)]) {
    await ifExists(letRead(path, readers));
  }
}

/** From here on it makes nothing in its directory that root might take for its own. Before the guest runs. */
export async function closeDirectory(directory: string): Promise<void> {
  await chmod(directory, MAY_ONLY_PASS);
}

/** A file, or a folder with the files in it that are named. */
export async function lend(user: number, folder: string, files: readonly string[]): Promise<void> {
  for (const path of files) await letRead(path, user);
  await chown(folder, ROOT, user);
  await chmod(folder, MAY_ONLY_PASS);
}

async function letRead(path: string, group: number): Promise<void> {
  const { mode, gid } = await stat(path);
  if (gid !== group) await chown(path, -1, group);
  if ((mode & GROUP_READS) === 0) await chmod(path, (mode & 0o777) | GROUP_READS);
}

function notForUsers(path: string): FleetingdError {
  return new FleetingdError("UNAVAILABLE", `VMs' own users may not use ${path}, which is root's alone`, {
    hint: `Give it a group of its own, as udev does (chgrp kvm ${path}; chmod 660 ${path}), or set hypervisor = "qemu".`,
  });
}
