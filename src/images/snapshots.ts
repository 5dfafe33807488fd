/**
 * Snapshots: `<diskDirectory>/snapshots/<name>/{memory, state/, vmlinux, disk, overlay.qcow2, snapshot.json}`. What a template
 * VM of a golden image was when it had come to rest. A folder under that name is complete and never changes; it is
 * removed as a whole. Its disk is a clone of the golden image, which must stay as long as it does.
 */
import { createHash } from "node:crypto";
import { chmod, stat } from "node:fs/promises";
import { join } from "node:path";
import * as z from "zod";
import { FleetingdError, messageOf, systemErrorCode } from "../errors.ts";
import { ensureDirectory, exists, listDirectory, readTextIfExists, writeFileAtomic } from "../host/files.ts";
import { sha256OfFile } from "../host/sha256.ts";
import { type Clone, createClone, writeEmptyOverlay } from "./clones.ts";
import type { GoldenImage, SnapshotImage } from "./image.ts";
import { publishDirectory, unpublishDirectory } from "./publish.ts";

/** All that a snapshot is the result of, and that a clone of it has to have in common with it. */
export interface SnapshotInputs {
  goldenImage: string;
  /** The hypervisor's word for what it can restore. */
  platform: string;
  vcpus: number;
  memoryMiB: number;
  console: "serial" | "virtio";
}

/** Where a template's parts go while a snapshot is made. */
export interface SnapshotParts {
  disk: Clone;
  memoryPath: string;
  stateDirectory: string;
  /** An uncompressed kernel may be left here. */
  kernelPath: string;
}

const FOLDER = "snapshots";
const DISK = "disk";
const OVERLAY = "overlay.qcow2";
const MEMORY = "memory";
const STATE = "state";
const KERNEL = "vmlinux";
const DESCRIPTION = "snapshot.json";
const MIB = 1024 ** 2;
/** Counts up when older snapshots lack what newer ones have: they are made anew then. */
const LAYOUT = 2;

const Stored = z.object({
  name: z.string(),
  goldenImage: z.string(),
  diskFormat: z.enum(["raw", "qcow2"]),
  memoryMiB: z.number(),
  /** Too large to read it all before each use; whoever writes to it changes this. Milliseconds since 1970. */
  memoryModifiedAt: z.number(),
  /** SHA-256 of each file of the devices' state. */
  state: z.record(z.string(), z.string()),
  /** Whether there is an uncompressed kernel; older snapshots, which are still listed, have none. */
  kernel: z.boolean().default(false),
  createdAt: z.iso.datetime(),
});

/** The snapshot's name: 16 hexadecimal digits, the same for the same inputs. */
export function snapshotName(inputs: SnapshotInputs): string {
  const { goldenImage, platform, vcpus, memoryMiB, console } = inputs;
  const ordered = JSON.stringify([LAYOUT, goldenImage, platform, vcpus, memoryMiB, console]);
  return createHash("sha256").update(ordered).digest("hex").slice(0, 16);
}

/** The snapshot of that name, or undefined if there is none. @throws FleetingdError CORRUPT */
export async function findSnapshot(diskDirectory: string, name: string): Promise<SnapshotImage | undefined> {
  const directory = join(diskDirectory, FOLDER, name);
  const stored = await readDescription(directory);
  if (stored === undefined) return undefined;
  return {
    name,
    goldenImage: stored.goldenImage,
    directory,
    diskPath: join(directory, DISK),
    diskFormat: stored.diskFormat,
    overlayPath: join(directory, OVERLAY),
    memoryPath: join(directory, MEMORY),
    kernelPath: stored.kernel ? join(directory, KERNEL) : undefined,
    stateDirectory: join(directory, STATE),
    createdAt: new Date(stored.createdAt),
  };
}

/** All snapshots, newest first. */
export async function listSnapshots(diskDirectory: string): Promise<SnapshotImage[]> {
  const snapshots: SnapshotImage[] = [];
  for (const name of await listDirectory(join(diskDirectory, FOLDER))) {
    const snapshot = name.startsWith(".") ? undefined : await findSnapshot(diskDirectory, name);
    if (snapshot !== undefined) snapshots.push(snapshot);
  }
  return snapshots.sort((a, b) => b.createdAt.getTime() - a.createdAt.getTime());
}

/** Why the snapshot can't be used, or undefined. It reads what is small and asks for the rest's size and date. */
export async function snapshotDamage({ directory }: SnapshotImage): Promise<string | undefined> {
  try {
    const stored = await readDescription(directory);
    if (stored === undefined) return "it has been removed";
    const memory = await stat(join(directory, MEMORY));
    if (memory.size !== stored.memoryMiB * MIB) return `its memory has ${memory.size} bytes`;
    if (Math.abs(memory.mtimeMs - stored.memoryModifiedAt) > 1) return "its memory was written to";
    await stat(join(directory, DISK));
    if (stored.kernel) await stat(join(directory, KERNEL));
    for (const [name, hash] of Object.entries(stored.state)) {
      const found = await sha256OfFile(join(directory, STATE, name));
      if (found !== hash) return `the checksum of its devices' state (${name}) is another one`;
    }
    return undefined;
  } catch (error) {
    if (systemErrorCode(error) === undefined && !(error instanceof FleetingdError)) throw error;
    return messageOf(error);
  }
}

/** Removes a snapshot; absent is fine. Clones that run keep what they have open of it. */
export async function removeSnapshot(diskDirectory: string, name: string): Promise<void> {
  await unpublishDirectory(join(diskDirectory, FOLDER, name));
}

/**
 * Makes the snapshot `name`: `build` gets a clone of the golden image, boots it, and leaves memory and state where it is told to, the VM
 * ended. If it throws, nothing is left. Callers hold the images lock.
 */
export async function publishSnapshot(
  diskDirectory: string,
  name: string,
  golden: GoldenImage,
  build: (parts: SnapshotParts) => Promise<void>,
): Promise<SnapshotImage> {
  const path = join(diskDirectory, FOLDER, name);
  await publishDirectory(path, async (directory) => {
    const disk = await createClone(golden, join(directory, DISK));
    const [memoryPath, kernelPath] = [join(directory, MEMORY), join(directory, KERNEL)];
    const parts = { disk, memoryPath, kernelPath, stateDirectory: join(directory, STATE) };
    await ensureDirectory(parts.stateDirectory);
    await build(parts);
    await chmod(disk.path, 0o400);
    // QEMU before 8.2 opens it for writing, though it maps it privately.
    await chmod(parts.memoryPath, 0o600);
    await writeEmptyOverlay(join(directory, OVERLAY), { ...disk, finalPath: join(path, DISK) });
    const stored = await describe(name, golden, parts);
    await writeFileAtomic(join(directory, DESCRIPTION), `${JSON.stringify(stored, null, 2)}\n`);
  });
  const snapshot = await findSnapshot(diskDirectory, name);
  if (snapshot === undefined) throw new FleetingdError("INTERNAL", `the snapshot ${name} left nothing`);
  return snapshot;
}

async function describe(
  name: string,
  golden: GoldenImage,
  { disk, memoryPath, stateDirectory, kernelPath }: SnapshotParts,
): Promise<z.infer<typeof Stored>> {
  const memory = await stat(memoryPath);
  const files = await listDirectory(stateDirectory);
  const hashes = files.map(async (file) => [file, await sha256OfFile(join(stateDirectory, file))] as const);
  return {
    name,
    goldenImage: golden.name,
    diskFormat: disk.format,
    memoryMiB: memory.size / MIB,
    memoryModifiedAt: memory.mtimeMs,
    state: Object.fromEntries(await Promise.all(hashes)),
    kernel: await exists(kernelPath),
    createdAt: new Date().toISOString(),
  };
}

async function readDescription(directory: string): Promise<z.infer<typeof Stored> | undefined> {
  const path = join(directory, DESCRIPTION);
  const text = await readTextIfExists(path);
  if (text === undefined) return undefined;
  try {
    return Stored.parse(JSON.parse(text));
  } catch (error) {
    throw new FleetingdError("CORRUPT", `${path} does not describe a snapshot`, {
      hint: "Remove its folder; the snapshot is then made again.",
      cause: error,
    });
  }
}
