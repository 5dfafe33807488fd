/** What there is of images in a disk directory, finished or not, and what points to it. */
import { lstat, readdir } from "node:fs/promises";
import { join } from "node:path";
import { systemErrorCode } from "../errors.ts";
import { listDirectory, readTextIfExists } from "../host/files.ts";
import { readBaseImage } from "./base-store.ts";
import { listGolden } from "./golden.ts";
import type { BaseImage, GoldenImage, SnapshotImage } from "./image.ts";
import { UNFINISHED } from "./publish.ts";
import { listSnapshots } from "./snapshots.ts";
import { pointedImage } from "./ubuntu-cache.ts";

export interface Pointer {
  /** The file's name. */
  name: string;
  /** The name of the image; undefined if the file does not say one. */
  target: string | undefined;
  modifiedAt: Date;
}

export interface Leftover {
  path: string;
  modifiedAt: Date;
}

export interface ImageInventory {
  diskDirectory: string;
  golden: readonly GoldenImage[];
  snapshots: readonly SnapshotImage[];
  bases: readonly BaseImage[];
  /** `golden/.current-…`: what each pool's image in use is. */
  goldenPointers: readonly Pointer[];
  /** `base/.current-…`: what a name on a server stands for. */
  basePointers: readonly Pointer[];
  /** Folders and files that were never finished, or whose removal was not. */
  leftovers: readonly Leftover[];
}

const POINTER_PREFIX = ".current-";
const BLOCK_BYTES = 512;

/** @throws FleetingdError CORRUPT if an image's description cannot be read: then it is not known what it is */
export async function readInventory(diskDirectory: string): Promise<ImageInventory> {
  const golden = await hiddenFiles(join(diskDirectory, "golden"), (text) => text.trim() || undefined);
  const base = await hiddenFiles(join(diskDirectory, "base"), pointedImage);
  const { leftovers } = await hiddenFiles(join(diskDirectory, "snapshots"), () => undefined);
  return {
    diskDirectory,
    golden: await listGolden(diskDirectory),
    snapshots: await listSnapshots(diskDirectory),
    bases: await listBases(diskDirectory),
    goldenPointers: golden.pointers,
    basePointers: base.pointers,
    leftovers: [...golden.leftovers, ...base.leftovers, ...leftovers],
  };
}

/** Bytes that a folder takes on its disk: holes of sparse files are none. */
export async function diskUsage(path: string): Promise<number> {
  try {
    const { blocks } = await lstat(path);
    const entries = await readdir(path, { withFileTypes: true, recursive: true });
    const sizes = entries.map(async (entry) => (await lstat(join(entry.parentPath, entry.name))).blocks);
    return BLOCK_BYTES * (await Promise.all(sizes)).reduce((sum, one) => sum + one, blocks);
  } catch (error) {
    if (systemErrorCode(error) === "ENOTDIR") return BLOCK_BYTES * (await lstat(path)).blocks;
    // It was removed meanwhile.
    if (systemErrorCode(error) === "ENOENT") return 0;
    throw error;
  }
}

async function listBases(diskDirectory: string): Promise<BaseImage[]> {
  const images: BaseImage[] = [];
  for (const name of await listDirectory(join(diskDirectory, "base"))) {
    const image = name.startsWith(".") ? undefined : await readBaseImage(join(diskDirectory, "base", name));
    if (image !== undefined) images.push(image);
  }
  return images.sort((a, b) => b.createdAt.getTime() - a.createdAt.getTime());
}

async function hiddenFiles(
  directory: string,
  readTarget: (text: string) => string | undefined,
): Promise<{ pointers: Pointer[]; leftovers: Leftover[] }> {
  const pointers: Pointer[] = [];
  const leftovers: Leftover[] = [];
  for (const name of await listDirectory(directory)) {
    const path = join(directory, name);
    if (UNFINISHED.test(name)) leftovers.push({ path, modifiedAt: await modifiedAt(path) });
    else if (name.startsWith(POINTER_PREFIX)) {
      const text = await readTextIfExists(path);
      if (text !== undefined)
        pointers.push({ name, target: readTarget(text), modifiedAt: await modifiedAt(path) });
    }
  }
  return { pointers, leftovers };
}

async function modifiedAt(path: string): Promise<Date> {
  try {
    return (await lstat(path)).mtime;
  } catch (error) {
    // Whoever works on it has removed it; to call it new keeps everybody's hands off.
    if (systemErrorCode(error) === "ENOENT") return new Date();
    throw error;
  }
}
