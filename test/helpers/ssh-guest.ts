/**
 * A machine that a real hypervisor boots within seconds, also under emulation, and that takes part in all that a VM goes
 * through: it writes a prebuild's report, and later reads its seed, brings up its network and serves SSH. It is the
 * stand-in's guest (test/helpers/stand-in-vm) as the only process on the tiny guest's kernel.
 */
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { writeCpio } from "../../src/images/cpio.ts";
import { buildStandInVm } from "./stand-in-vm.ts";
import { prepareTinyGuest } from "./tiny-guest.ts";

const MIB = 1024 ** 2;

/** Puts its files into `folder`; answers an image of the type `files`. */
export async function createSshGuest(folder: string): Promise<Readonly<Record<string, unknown>>> {
  const [disk, initrd] = [join(folder, "disk.raw"), join(folder, "initrd")];
  const tiny = await prepareTinyGuest();
  const { hypervisor: init } = await buildStandInVm();
  // Archives behind each other are one, in which the later file counts.
  const archive = writeCpio([{ path: "init", type: "file", mode: 0o755, data: await readFile(init) }]);
  await writeFile(initrd, Buffer.concat([await readFile(tiny.initrdPath), archive]));
  await writeFile(disk, Buffer.alloc(MIB));
  return { type: "files", disk, kernel: tiny.kernelPath, initrd };
}
