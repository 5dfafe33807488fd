/** Kernel modules: which files a module needs, in the order in which they must be loaded. */
import { mkdtemp, readFile, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { FleetingdError } from "../errors.ts";
import { readTextIfExists, removeTree } from "../host/files.ts";
import { compressionOf, decompressFile } from "./decompress.ts";

export interface KernelModule {
  /** `virtio_blk` */
  name: string;
  /** The ELF object, decompressed. */
  data: Uint8Array;
}

/** What `modules.dep` and `modules.builtin` say. */
export interface ModuleIndex {
  /** Paths by module name, and the paths that each needs, nearest first as depmod writes them. */
  loadable: ReadonlyMap<string, { path: string; needs: readonly string[] }>;
  builtin: ReadonlySet<string>;
}

/** The modules that a clone needs before its root file system is mounted and its network is up. */
export const BOOT_MODULES: readonly string[] = ["virtio_pci", "virtio_blk", "ext4", "virtio_net"];
/** Loaded only when the kernel's console is behind it. */
export const CONSOLE_MODULE = "virtio_console";

/** A module's name from its path: `kernel/fs/crc32c-intel.ko.xz` is `crc32c_intel`. */
export function moduleName(path: string): string {
  return basename(path)
    .replace(/\.ko(\.(xz|zst|gz))?$/, "")
    .replaceAll("-", "_");
}

export function parseModuleIndex(modulesDep: string, modulesBuiltin: string): ModuleIndex {
  const loadable = new Map<string, { path: string; needs: readonly string[] }>();
  for (const line of modulesDep.split("\n")) {
    const colon = line.indexOf(":");
    if (colon < 0) continue;
    const path = line.slice(0, colon);
    const needs = line
      .slice(colon + 1)
      .split(" ")
      .filter((need) => need !== "");
    loadable.set(moduleName(path), { path, needs });
  }
  const builtin = new Set(
    modulesBuiltin
      .split("\n")
      .filter((line) => line !== "")
      .map(moduleName),
  );
  return { loadable, builtin };
}

/**
 * The paths to load so that every module in `names` is there; each after what it needs, none twice. What is
 * built in needs nothing.
 * @throws FleetingdError NOT_FOUND for a module that the kernel has in neither form.
 */
export function modulePaths(index: ModuleIndex, names: readonly string[]): string[] {
  const ordered: string[] = [];
  for (const name of names) {
    const module = index.loadable.get(name);
    if (module === undefined) {
      if (index.builtin.has(name)) continue;
      throw new FleetingdError("NOT_FOUND", `the kernel has no module ${name}, and it is not built in`, {
        hint: "Use a kernel with virtio drivers.",
      });
    }
    // depmod lists what is needed last first.
    for (const path of [...module.needs].reverse().concat(module.path)) {
      if (!ordered.includes(path)) ordered.push(path);
    }
  }
  return ordered;
}

/** Reads the modules `names` and what they need from `<root>/lib/modules/<release>`, in loading order. */
export async function readKernelModules(
  root: string,
  release: string,
  names: readonly string[],
): Promise<KernelModule[]> {
  const directory = join(root, "lib/modules", release);
  const index = parseModuleIndex(
    await readFile(join(directory, "modules.dep"), "utf8"),
    (await readTextIfExists(join(directory, "modules.builtin"))) ?? "",
  );
  const modules: KernelModule[] = [];
  for (const path of modulePaths(index, names)) {
    modules.push(await moduleOf(path, await readFile(join(directory, path))));
  }
  return modules;
}

/** A module from the content of its file, decompressed by what the file's name says. */
export async function moduleOf(path: string, content: Uint8Array): Promise<KernelModule> {
  return { name: moduleName(path), data: await decompress(basename(path), content) };
}

async function decompress(fileName: string, content: Uint8Array): Promise<Uint8Array> {
  if (compressionOf(fileName) === undefined) return content;
  const scratch = await mkdtemp(join(tmpdir(), "fleetingd-module-"));
  try {
    const packed = join(scratch, fileName);
    await writeFile(packed, content);
    return await readFile(await decompressFile(packed));
  } finally {
    await removeTree(scratch);
  }
}
