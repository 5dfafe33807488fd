/** The hypervisors that the parity suite runs: QEMU, Cloud Hypervisor's stand-in, and its real one where there is one. */
import { access, chmod, constants, copyFile, mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { findProgram } from "../../src/host/files.ts";
import { platformOf } from "../../src/hypervisor/qemu/platform.ts";

const STAND_IN = fileURLToPath(new URL("cloud-hypervisor/stand-in-vmm.mjs", import.meta.url));
const FAULTY = fileURLToPath(new URL("faulty-hypervisor.mjs", import.meta.url));
/** A file in a VM's directory, which is its process's working directory: its hypervisor is then of no use in this way. */
export const FAULT_FILE = "fault";

export interface PutProgramOptions {
  /** Of the stand-in. */
  version?: string;
}

/**
 * Puts a program for the hypervisor into `folder`, which is to be the first of PATH: it is the named one, but for VMs with a fault.
 */
export async function putHypervisor(
  folder: string,
  which: "qemu" | "cloud-hypervisor" | "stand-in",
  { version = "54.0.0" }: PutProgramOptions = {},
): Promise<void> {
  const name = which === "qemu" ? platformOf().program : "cloud-hypervisor";
  const real = which === "stand-in" ? undefined : await findProgram(name);
  // Beside it, for users who may not read where this project is.
  const standIn = join(folder, "stand-in-vmm.mjs");
  const locks = join(folder, "locks");
  const command = real === undefined ? `"${process.execPath}" "${standIn}"` : `"${real}"`;
  await mkdir(folder, { recursive: true });
  await copyFile(STAND_IN, standIn);
  const faulty = join(folder, "faulty-hypervisor.mjs");
  await copyFile(FAULTY, faulty);
  await mkdir(locks, { recursive: true });
  await chmod(locks, 0o1777);
  const script = `#!/bin/sh
if [ -e ${FAULT_FILE} ]; then exec "${process.execPath}" "${faulty}" "$(cat ${FAULT_FILE})" "$@"; fi
STAND_IN_VMM_VERSION=${version} STAND_IN_VMM_LOCKS="${locks}" exec ${command} "$@"
`;
  await writeFile(join(folder, name), script, { mode: 0o755 });
}

/** Why the real Cloud Hypervisor can't run here; undefined if it can. */
export async function obstacleToCloudHypervisor(): Promise<string | undefined> {
  if ((await findProgram("cloud-hypervisor")) === undefined)
    return "no KVM host: cloud-hypervisor is not on PATH";
  return access("/dev/kvm", constants.R_OK | constants.W_OK).then(
    () => undefined,
    () => "no KVM: /dev/kvm can't be opened",
  );
}
