/** What becomes of a VM that is to be changed, if it may be. */
import { child, children, textOf, type XmlNode } from "../../../src/sources/vcd/xml.ts";
import { bad, notIn } from "./refusal.ts";
import type { Vm } from "./world.ts";

/** What is shown of a password that is set. */
export const HIDDEN = "******";

const MB_PER_MEMORY_STEP = 4;

/** A section that comes back with stars has the password that it had. */
export function customized(vm: Vm, section: XmlNode): XmlNode {
  if (vm.state === "on") throw notIn("powered off", vm);
  const computerName = textOf(section, "ComputerName") ?? "";
  const most = vm.osType.startsWith("win") ? 15 : 63;
  if (!/^[A-Za-z0-9-]+$/.test(computerName) || computerName.length > most) {
    throw bad(`The computer name "${computerName}" is not valid.`);
  }
  if (textOf(section, "AdminPasswordAuto") === "true" && textOf(section, "AdminPassword") !== undefined) {
    throw bad("A password can't be both given and made up.");
  }
  const { "@href": _href, ...values } = section;
  if (textOf(section, "AdminPassword") !== HIDDEN) return values;
  return { ...values, AdminPassword: vm.customization["AdminPassword"] };
}

export function sized(vm: Vm, spec: XmlNode | undefined): Partial<Vm> {
  if (vm.state === "on") throw notIn("powered off", vm);
  const cpus = Number(textOf(spec, "NumCpus") ?? vm.cpus);
  const cores = Number(textOf(spec, "NumCoresPerSocket") ?? vm.cores);
  if (cpus % cores !== 0)
    throw bad("The number of virtual CPUs must be a multiple of the number of cores per socket.");
  const memoryMb = Number(textOf(spec, "MemoryResourceMb", "Configured") ?? vm.memoryMb);
  if (memoryMb % MB_PER_MEMORY_STEP !== 0) throw bad("The memory size must be a multiple of 4 MB.");
  const section = child(spec, "DiskSection");
  const given = children(section, "DiskSettings");
  const disks = section === undefined ? vm.disks : given.map((disk) => diskOf(vm, disk));
  return { cpus, cores, memoryMb, disks };
}

function diskOf(vm: Vm, settings: XmlNode): Vm["disks"][number] {
  const id = textOf(settings, "DiskId") ?? "";
  const sizeMb = Number(textOf(settings, "SizeMb"));
  const before = vm.disks.find((disk) => disk.id === id);
  if (before !== undefined && sizeMb < before.sizeMb) throw bad("A disk can't be made smaller.");
  return { id, sizeMb };
}
