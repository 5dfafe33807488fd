/** What things take, by the kernel's own word. */
import { readFile, stat } from "node:fs/promises";
import { FleetingdError } from "../src/errors.ts";

const MIB = 1024 ** 2;
const BLOCK_BYTES = 512;

/** Proportional set size: what is shared with other processes counts in parts. */
export function pssMiB(pid: number): Promise<number> {
  return fieldMiB(`/proc/${pid}/smaps_rollup`, "Pss");
}

/** Resident set size, program code included. */
export function rssMiB(pid: number): Promise<number> {
  return fieldMiB(`/proc/${pid}/status`, "VmRSS");
}

async function fieldMiB(path: string, field: string): Promise<number> {
  const kib = new RegExp(`^${field}:\\s+(\\d+) kB$`, "m").exec(await readFile(path, "utf8"))?.[1];
  if (kib !== undefined) return Number(kib) / 1024;
  throw new FleetingdError("INTERNAL", `${path} has no line ${field}`);
}

/** What a file takes on its disk, holes not counted. */
export async function usedMiB(path: string): Promise<number> {
  return ((await stat(path)).blocks * BLOCK_BYTES) / MIB;
}

/** What a clone takes: the blocks of a reflink that are still the image's are not its own. */
export async function cloneMiB(
  clone: { path: string; format: "raw" | "qcow2" },
  goldenDiskPath: string,
): Promise<number> {
  const used = await usedMiB(clone.path);
  return clone.format === "qcow2" ? used : Math.max(0, used - (await usedMiB(goldenDiskPath)));
}
