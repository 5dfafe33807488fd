/** Which images VMs are made of, by their records: those on disk and those in memory, whoever's pool they are of. */
import { dirname, join } from "node:path";
import { messageOf } from "../errors.ts";
import { listDirectory } from "../host/files.ts";
import type { Journal } from "../pool/journal.ts";
import { clonesDirectory, parseLocalData } from "../sources/local/vm.ts";
import type { SourceData } from "../sources/source.ts";
import type { DaemonPool } from "./daemon-pool.ts";

export interface VmImage {
  id: string;
  cloneDirectory: string;
  diskDirectory: string;
  goldenImage: string;
  snapshot: string | undefined;
}

export interface VmImages {
  vms: readonly VmImage[];
  /** A sentence for each record that could not be read: what its VM uses is not known. */
  unreadable: readonly string[];
}

export async function readVmImages(
  journal: Pick<Journal, "load">,
  pools: () => readonly Pick<DaemonPool, "pool">[],
): Promise<VmImages> {
  const { records, unreadable } = await journal.load();
  const data = new Map<string, SourceData>(records.map((record) => [record.id, record.data]));
  // What is in memory is newer.
  for (const { pool } of pools()) for (const one of pool.all()) data.set(one.id, one.data);
  const vms: VmImage[] = [];
  const problems = unreadable.map(({ path, reason }) => `${path}: ${reason}`);
  for (const [id, one] of data) {
    try {
      const local = parseLocalData(id, one);
      if (local === undefined) continue;
      const { cloneDirectory, goldenImage, snapshot } = local;
      const diskDirectory = dirname(dirname(cloneDirectory));
      vms.push({ id, cloneDirectory, diskDirectory, goldenImage, snapshot });
    } catch (error) {
      problems.push(messageOf(error));
    }
  }
  return { vms, unreadable: problems };
}

/** Clones in the directory that belong to no record, so to somebody that we don't know. */
export async function strangeClones(diskDirectory: string, { vms }: VmImages): Promise<string[]> {
  const directory = clonesDirectory(diskDirectory);
  const known = new Set(vms.map(({ cloneDirectory }) => cloneDirectory));
  return (await listDirectory(directory)).filter((name) => !known.has(join(directory, name)));
}
