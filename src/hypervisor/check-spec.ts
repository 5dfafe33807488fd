/** Refuses what a hypervisor would misread, or read in a way that nobody meant. */
import { isAbsolute } from "node:path";
import { FleetingdError } from "../errors.ts";
import { networkDeviceExists } from "../host/network-device.ts";
import type { VmSpec } from "./driver.ts";

const SERIAL_MAX_LENGTH = 20;

/** @throws FleetingdError INVALID_ARGUMENT, or NOT_FOUND if a network device is missing. */
export async function checkSpec(spec: VmSpec): Promise<void> {
  const problem = findProblem(spec);
  if (problem !== undefined) {
    throw new FleetingdError(
      "INVALID_ARGUMENT",
      `the VM ${JSON.stringify(spec.id)} cannot start: ${problem}`,
    );
  }
  for (const { tapName } of spec.nics) {
    if (await networkDeviceExists(tapName)) continue;
    // The hypervisor would make one itself: without its address, and without anybody who removes it.
    throw new FleetingdError(
      "NOT_FOUND",
      `the VM ${spec.id} cannot start: there is no network device ${tapName}`,
      { hint: "It is made before the VM starts; something else on this host may remove network devices." },
    );
  }
}

function findProblem(spec: VmSpec): string | undefined {
  if (!/^[\w.-]+$/.test(spec.id))
    return "its id may only have letters, digits, dots, hyphens and underscores";
  if (!isPositiveInteger(spec.vcpus)) return `${spec.vcpus} is no number of processors`;
  if (!isPositiveInteger(spec.memoryMiB)) return `${spec.memoryMiB} MiB is no size of memory`;
  const { directory, kernelPath, memoryPath } = spec;
  const paths = [directory, kernelPath, ...[memoryPath ?? []].flat(), ...spec.disks.map((disk) => disk.path)];
  const relative = paths.find((path) => !isAbsolute(path));
  if (relative !== undefined) return `the path ${relative} is not absolute`;
  for (const { serial } of spec.disks) {
    if (!/^[\w.-]*$/.test(serial) || serial.length > SERIAL_MAX_LENGTH) {
      return `${JSON.stringify(serial)} is no serial number for a disk (at most ${SERIAL_MAX_LENGTH} letters and digits)`;
    }
  }
  for (const { tapName, macAddress } of spec.nics) {
    if (!/^[\w.-]{1,15}$/.test(tapName)) return `${JSON.stringify(tapName)} is no name of a network device`;
    if (!/^([0-9a-f]{2}:){5}[0-9a-f]{2}$/i.test(macAddress)) return `${macAddress} is no MAC address`;
  }
  return undefined;
}

function isPositiveInteger(value: number): boolean {
  return Number.isSafeInteger(value) && value > 0;
}
