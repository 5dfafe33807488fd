/**
 * A tiny initrd: a static busybox as the interpreter of one short script, and the modules that the root
 * file system and the network need. It boots about two seconds sooner under emulation than a distribution's.
 */
import { open, readFile } from "node:fs/promises";
import { FleetingdError } from "../errors.ts";
import { findProgram } from "../host/files.ts";
import { packageFile } from "../host/package-root.ts";
import { type CpioEntry, writeCpio } from "./cpio.ts";
import { CONSOLE_MODULE, type KernelModule } from "./kernel-modules.ts";

const APPLETS = [
  "sh",
  "mount",
  "umount",
  "insmod",
  "findfs",
  "usleep",
  "sleep",
  "poweroff",
  "switch_root",
] as const;
const PROGRAM_HEADER_INTERPRETER = 3;

export interface InitrdParts {
  /** A statically linked busybox. */
  busybox: Uint8Array;
  /** What runs as /init. */
  initScript: string;
  /** In loading order. */
  modules: readonly KernelModule[];
}

/** The initrd's bytes: uncompressed, because under emulation unpacking costs more than reading. */
export function renderInitrd(parts: InitrdParts): Buffer {
  const directories = ["bin", "dev", "proc", "root", "modules"];
  // Only the console's own driver is conditional; what others share with it is loaded before it anyway.
  const list = parts.modules.map(({ name }) => (name === CONSOLE_MODULE ? `${name} console\n` : `${name}\n`));
  const entries: CpioEntry[] = [
    ...directories.map((path) => ({ path, type: "directory" as const })),
    // The kernel opens it before /init could mount a /dev.
    { path: "dev/console", type: "character", device: [5, 1] },
    { path: "init", type: "file", mode: 0o755, data: parts.initScript },
    { path: "bin/busybox", type: "file", mode: 0o755, data: parts.busybox },
    ...APPLETS.map((applet) => ({ path: `bin/${applet}`, type: "symlink" as const, data: "busybox" })),
    ...parts.modules.map(({ name, data }) => ({ path: `modules/${name}.ko`, type: "file" as const, data })),
    { path: "modules/list", type: "file", data: list.join("") },
  ];
  return writeCpio(entries);
}

/**
 * Makes the initrd for `modules` with this host's static busybox.
 * @throws FleetingdError MISSING_PROGRAM if there is none.
 */
export async function buildInitrd(modules: readonly KernelModule[]): Promise<Buffer> {
  const [busybox, initScript] = await Promise.all([staticBusybox(), readInitScript()]);
  return renderInitrd({ busybox: await readFile(busybox), initScript, modules });
}

/** The script that runs as /init. */
export async function readInitScript(): Promise<string> {
  return readFile(await packageFile("templates/initrd/init"), "utf8");
}

/**
 * The path of a statically linked busybox on this host.
 * @throws FleetingdError MISSING_PROGRAM if there is none.
 */
export async function staticBusybox(): Promise<string> {
  const path = await findProgram("busybox");
  if (path !== undefined && (await isStaticProgram(path))) return path;
  const reason = path === undefined ? "found no busybox on PATH" : `${path} is not statically linked`;
  throw new FleetingdError("MISSING_PROGRAM", `cannot make an initrd: ${reason}`, {
    hint: "Install the package busybox-static.",
  });
}

/** Whether a 64-bit ELF program needs no interpreter (a dynamic one would not run in an initrd). */
async function isStaticProgram(path: string): Promise<boolean> {
  const file = await open(path, "r");
  try {
    const header = Buffer.alloc(4096);
    const { bytesRead } = await file.read(header, 0, header.length, 0);
    if (bytesRead < 64 || header.toString("latin1", 0, 4) !== "\x7fELF") return false;
    const offset = Number(header.readBigUInt64LE(32));
    const [size, count] = [header.readUInt16LE(54), header.readUInt16LE(56)];
    for (let at = offset, left = count; left > 0 && at + 4 <= bytesRead; at += size, left--) {
      if (header.readUInt32LE(at) === PROGRAM_HEADER_INTERPRETER) return false;
    }
    return true;
  } finally {
    await file.close();
  }
}
