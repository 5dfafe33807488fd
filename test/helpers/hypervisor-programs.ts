/** The hypervisors that the parity suite runs: QEMU, Cloud Hypervisor's stand-in, and its real one where there is one. */
import { mkdir, writeFile } from "node:fs/promises";
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
  const command = real === undefined ? `"${process.execPath}" "${STAND_IN}"` : `"${real}"`;
  const script = `#!/bin/sh
if [ -e ${FAULT_FILE} ]; then exec "${process.execPath}" "${FAULTY}" "$(cat ${FAULT_FILE})" "$@"; fi
STAND_IN_VMM_VERSION=${version} exec ${command} "$@"
`;
  await mkdir(folder, { recursive: true });
  await writeFile(join(folder, name), script, { mode: 0o755 });
}
