/** What qcow2 disks are overlays of: files that are read besides the disks themselves. */
import { open } from "node:fs/promises";
import { dirname, resolve } from "node:path";
import { systemErrorCode } from "../../errors.ts";
import type { DiskSpec } from "../driver.ts";

const MAGIC = 0x514649fb;
const HEADER_BYTES = 20;
const LONGEST_NAME_BYTES = 1023;
/** Longer chains Cloud Hypervisor refuses. */
const LONGEST_CHAIN = 10;

export async function backingFilesOf(disks: readonly DiskSpec[]): Promise<string[]> {
  const found: string[] = [];
  for (const { path, format } of disks) {
    let current: string | undefined = format === "qcow2" ? path : undefined;
    for (let depth = 0; current !== undefined && depth < LONGEST_CHAIN; depth++) {
      const backing: string | undefined = await backingFileOf(current);
      if (backing !== undefined) found.push(backing);
      current = backing;
    }
  }
  return [...new Set(found)];
}

/** By the header of a qcow2 image; undefined for all other files, and those that aren't there: opening it says why. */
async function backingFileOf(path: string): Promise<string | undefined> {
  const file = await open(path, "r").catch((error: unknown) => {
    if (systemErrorCode(error) === undefined) throw error;
    return undefined;
  });
  if (file === undefined) return undefined;
  try {
    const header = Buffer.alloc(HEADER_BYTES);
    const { bytesRead } = await file.read(header, 0, HEADER_BYTES, 0);
    if (bytesRead < HEADER_BYTES || header.readUInt32BE(0) !== MAGIC) return undefined;
    const [offset, length] = [Number(header.readBigUInt64BE(8)), header.readUInt32BE(16)];
    if (offset === 0 || length === 0 || length > LONGEST_NAME_BYTES) return undefined;
    const name = Buffer.alloc(length);
    await file.read(name, 0, length, offset);
    return resolve(dirname(path), name.toString("utf8"));
  } finally {
    await file.close();
  }
}
