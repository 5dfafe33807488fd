/**
 * A kernel for x86 as it lies in memory (vmlinux), out of the compressed one that distributions publish (bzImage).
 *
 * QEMU maps the one, so that all VMs share it and what is never read takes no memory; the other it reads into memory of each process's
 * own. Where what lies in a bzImage: Documentation/arch/x86/boot.rst of Linux.
 */
import { chmod, type FileHandle, mkdtemp, open, rename, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { FleetingdError, messageOf } from "../errors.ts";
import { removeTree } from "../host/files.ts";
import { decompressFile } from "./decompress.ts";

const SECTOR_BYTES = 512;
/** Of the setup header. */
const SETUP = { sectors: 0x1f1, magic: 0x202, version: 0x206, offset: 0x248, length: 0x24c, end: 0x250 };
const PAYLOAD_SINCE_VERSION = 0x208;
/** How the payload begins. */
const MAGICS: readonly (readonly [suffix: string, hexadecimal: string])[] = [
  [".gz", "1f8b"],
  [".xz", "fd377a585a00"],
  [".zst", "28b52ffd"],
  [".lz4", "02214c18"],
];
/** All but gzip, which ends with it anyway, are followed by the size of what is in them. */
const TRAILER_BYTES = 4;
const ELF = { magic: "7f454c4602", headerBytes: 64, programHeaderBytes: 56, note: 4 };
/** Type and name of the note that says where a loader enters it (PVH); QEMU starts no vmlinux without. */
const ENTRY_NOTE = Buffer.from("\x12\0\0\0Xen\0", "latin1");

/**
 * Writes the kernel of a bzImage to `path`, to be read only.
 * @returns why not, if it is another kind of kernel or its program is missing; undefined if the file is there
 */
export async function unpackKernel(kernelPath: string, path: string): Promise<string | undefined> {
  const scratch = await mkdtemp(`${path}-`);
  try {
    const payload = await payloadOf(kernelPath);
    if (payload === undefined) return "it is no bzImage, or compressed in a way that is not known here";
    const packed = join(scratch, `vmlinux${payload.suffix}`);
    await writeFile(packed, payload.data);
    const unpacked = await decompressFile(packed);
    if (!(await hasEntryNote(unpacked))) return "it cannot be started uncompressed (CONFIG_PVH)";
    await chmod(unpacked, 0o400);
    await rename(unpacked, path);
    return undefined;
  } catch (error) {
    if (!(error instanceof FleetingdError)) throw error;
    return messageOf(error);
  } finally {
    await removeTree(scratch);
  }
}

async function payloadOf(path: string): Promise<{ suffix: string; data: Buffer } | undefined> {
  const file = await open(path);
  try {
    const setup = await readAt(file, 0, SETUP.end);
    if (setup.length < SETUP.end || setup.toString("latin1", SETUP.magic, SETUP.version) !== "HdrS")
      return undefined;
    if (setup.readUInt16LE(SETUP.version) < PAYLOAD_SINCE_VERSION) return undefined;
    // The boot sector is not counted; none at all means four.
    const sectors = 1 + (setup.readUInt8(SETUP.sectors) || 4);
    const begin = sectors * SECTOR_BYTES + setup.readUInt32LE(SETUP.offset);
    const data = await readAt(file, begin, setup.readUInt32LE(SETUP.length));
    const [suffix] = MAGICS.find(([, magic]) => startsWith(data, magic)) ?? [];
    if (suffix === undefined) return undefined;
    return { suffix, data: suffix === ".gz" ? data : data.subarray(0, -TRAILER_BYTES) };
  } finally {
    await file.close();
  }
}

async function hasEntryNote(path: string): Promise<boolean> {
  const file = await open(path);
  try {
    const header = await readAt(file, 0, ELF.headerBytes);
    if (header.length < ELF.headerBytes || !startsWith(header, ELF.magic)) return false;
    const [offset, count] = [Number(header.readBigUInt64LE(32)), header.readUInt16LE(56)];
    const table = await readAt(file, offset, count * ELF.programHeaderBytes);
    for (let at = 0; at < table.length; at += ELF.programHeaderBytes) {
      if (table.readUInt32LE(at) !== ELF.note) continue;
      const [begin, length] = [Number(table.readBigUInt64LE(at + 8)), Number(table.readBigUInt64LE(at + 32))];
      if ((await readAt(file, begin, length)).includes(ENTRY_NOTE)) return true;
    }
    return false;
  } finally {
    await file.close();
  }
}

function startsWith(data: Buffer, hexadecimal: string): boolean {
  return data.subarray(0, hexadecimal.length / 2).toString("hex") === hexadecimal;
}

/** Fewer bytes where the file ends before. */
async function readAt(file: FileHandle, position: number, length: number): Promise<Buffer> {
  const { buffer, bytesRead } = await file.read(Buffer.alloc(length), 0, length, position);
  return buffer.subarray(0, bytesRead);
}
