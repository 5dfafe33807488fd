/**
 * Images as one file, for hosts that reach no server: a tar archive whose first member, `manifest.json`, has the SHA-256 of
 * every other. GNU tar reads and writes it, for it keeps the holes of sparse disks, and compresses as the file's name says.
 * Snapshots stay behind: they only fit the host that made them.
 */
import { randomBytes } from "node:crypto";
import { mkdtemp, readdir, rename, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { basename, dirname, join, relative, resolve } from "node:path";
import * as z from "zod";
import { FleetingdError } from "../errors.ts";
import { explainDiskFull } from "../host/disk-full.ts";
import { exists, readTextIfExists, removeTree, writeFileAtomic } from "../host/files.ts";
import { run } from "../host/run.ts";
import { sha256OfFile } from "../host/sha256.ts";
import { writeEmptyOverlay } from "./clones.ts";
import type { OnProgress } from "./image.ts";
import { readInventory } from "./inventory.ts";
import { publishDirectory } from "./publish.ts";

export interface ArchiveOptions {
  diskDirectory: string;
  signal: AbortSignal;
  onProgress: OnProgress;
}

const TIMEOUT_MS = 2 * 60 * 60_000;
const MANIFEST = "manifest.json";
const DISK = "disk.raw";
/** Names its disk by an absolute path, so each host makes its own. */
const OVERLAY = "overlay.qcow2";

const SAFE_NAME = /^[\w][\w.-]*$/;
const FOLDERS = z.enum(["base", "golden"]);
const Archived = z.object({
  folder: FOLDERS,
  name: z.string().regex(SAFE_NAME),
  /** SHA-256 by the path below the image's folder. */
  files: z.record(z.string(), z.string()),
});
const Manifest = z.object({
  format: z.literal(1),
  createdAt: z.iso.datetime(),
  images: z.array(Archived),
  /** What says which image is in use. */
  pointers: z.array(
    z.object({ folder: FOLDERS, name: z.string().regex(/^\.current-[\w.-]+$/), text: z.string() }),
  ),
});
type ArchivedImage = z.infer<typeof Archived>;

/**
 * Writes the golden images in use, and the base images that they were made of, to `archivePath`. Callers hold the images lock.
 * @returns names of the images
 * @throws FleetingdError NOT_FOUND if there is none
 */
export async function exportImages(archivePath: string, options: ArchiveOptions): Promise<string[]> {
  const { diskDirectory, signal, onProgress } = options;
  const { golden, bases, goldenPointers, basePointers } = await readInventory(diskDirectory);
  const used = golden.filter(({ name }) => goldenPointers.some(({ target }) => target === name));
  if (used.length === 0) {
    throw new FleetingdError("NOT_FOUND", `there is no golden image in use in ${diskDirectory}`, {
      hint: "Run `fleetingd prebuild` first.",
    });
  }
  const sources = bases.filter((base) => used.some(({ baseName }) => baseName === base.name));
  const images: ArchivedImage[] = [];
  for (const [folder, name] of [
    ...sources.map((one) => ["base", one.name] as const),
    ...used.map((one) => ["golden", one.name] as const),
  ]) {
    onProgress({ step: `reading ${name}` });
    images.push({ folder, name, files: await sumsOf(join(diskDirectory, folder, name), signal) });
  }
  const pointers = [
    ...(await textsOf(diskDirectory, "golden", goldenPointers, images)),
    ...(await textsOf(diskDirectory, "base", basePointers, images)),
  ];
  onProgress({ step: "writing the archive" });
  await writeArchive(
    archivePath,
    { format: 1, createdAt: new Date().toISOString(), images, pointers },
    options,
  );
  return images.map(({ name }) => name);
}

/**
 * Puts the archive's images in place, each whole or not at all, after every file's sum was found to be right. Callers hold the images lock.
 * @returns names of the images, also of those that were there
 * @throws FleetingdError CORRUPT, VERIFICATION_FAILED, EXHAUSTED
 */
export async function importImages(archivePath: string, options: ArchiveOptions): Promise<string[]> {
  const { diskDirectory, onProgress } = options;
  const { images, pointers } = await readManifest(archivePath);
  for (const image of images) {
    const directory = join(diskDirectory, image.folder, image.name);
    if (await exists(directory)) continue;
    onProgress({ step: `unpacking ${image.name}` });
    try {
      await publishDirectory(directory, (temporary) => unpack(archivePath, image, temporary, options));
    } catch (error) {
      throw explainDiskFull(error, "the images of the archive", diskDirectory);
    }
  }
  // Last: what they point to is there.
  for (const { folder, name, text } of pointers)
    await writeFileAtomic(join(diskDirectory, folder, name), text);
  return images.map(({ name }) => name);
}

async function sumsOf(directory: string, signal: AbortSignal): Promise<Record<string, string>> {
  const files: Record<string, string> = {};
  for (const entry of await readdir(directory, { withFileTypes: true, recursive: true })) {
    const path = join(entry.parentPath, entry.name);
    const name = relative(directory, path);
    if (entry.isDirectory() || name === OVERLAY) continue;
    if (!entry.isFile()) throw new FleetingdError("CORRUPT", `${path} is not a plain file`);
    files[name] = await sha256OfFile(path, { signal });
  }
  return files;
}

async function textsOf(
  diskDirectory: string,
  folder: "base" | "golden",
  pointers: readonly { name: string; target: string | undefined }[],
  images: readonly ArchivedImage[],
): Promise<z.infer<typeof Manifest>["pointers"]> {
  const texts: z.infer<typeof Manifest>["pointers"] = [];
  for (const { name, target } of pointers) {
    if (!images.some((image) => image.folder === folder && image.name === target)) continue;
    const text = await readTextIfExists(join(diskDirectory, folder, name));
    if (text !== undefined) texts.push({ folder, name, text });
  }
  return texts;
}

async function writeArchive(
  archivePath: string,
  manifest: z.infer<typeof Manifest>,
  { diskDirectory, signal }: ArchiveOptions,
): Promise<void> {
  const staging = await mkdtemp(join(tmpdir(), "fleetingd-export-"));
  // Its end says how it is compressed.
  const temporary = join(
    dirname(resolve(archivePath)),
    `.${randomBytes(6).toString("hex")}.${basename(archivePath)}`,
  );
  try {
    await writeFile(join(staging, MANIFEST), `${JSON.stringify(manifest, null, 2)}\n`);
    const members = manifest.images.map(({ folder, name }) => `${folder}/${name}`);
    await run(
      "tar",
      [
        ...[
          "--create",
          "--file",
          temporary,
          "--auto-compress",
          "--sparse",
          "--numeric-owner",
          `--exclude=${OVERLAY}`,
        ],
        ...["--directory", staging, MANIFEST, "--directory", resolve(diskDirectory), "--", ...members],
      ],
      { timeoutMs: TIMEOUT_MS, signal },
    );
    await rename(temporary, archivePath);
  } catch (error) {
    throw explainDiskFull(error, "the archive", dirname(resolve(archivePath)));
  } finally {
    await removeTree(temporary);
    await removeTree(staging);
  }
}

async function readManifest(archivePath: string): Promise<z.infer<typeof Manifest>> {
  await stat(archivePath).catch((cause: unknown) => {
    throw new FleetingdError("NOT_FOUND", `there is no archive ${archivePath}`, { cause });
  });
  const args = ["--extract", "--to-stdout", "--occurrence=1", "--file", archivePath, MANIFEST];
  try {
    return Manifest.parse(JSON.parse((await run("tar", args, { timeoutMs: TIMEOUT_MS })).stdout));
  } catch (cause) {
    throw new FleetingdError(
      "CORRUPT",
      `${archivePath} is not an archive of images that this version knows`,
      {
        hint: "Make it with `fleetingd image export`, and see that all of it was copied.",
        cause,
      },
    );
  }
}

async function unpack(
  archivePath: string,
  { folder, name, files }: ArchivedImage,
  directory: string,
  { diskDirectory, signal }: ArchiveOptions,
): Promise<void> {
  await run(
    "tar",
    [
      ...["--extract", "--file", archivePath, "--directory", directory, "--strip-components=2"],
      ...["--no-same-owner", "--", `${folder}/${name}`],
    ],
    { timeoutMs: TIMEOUT_MS, signal },
  );
  const found = await sumsOf(directory, signal);
  for (const path of new Set([...Object.keys(files), ...Object.keys(found)])) {
    if (files[path] !== undefined && files[path] === found[path]) continue;
    throw new FleetingdError(
      "VERIFICATION_FAILED",
      `${path} of ${name} in ${archivePath} is not what was exported`,
      {
        hint: "Copy the archive again; nothing of this image was kept.",
      },
    );
  }
  if (folder === "base") return;
  const finalPath = resolve(diskDirectory, folder, name, DISK);
  await writeEmptyOverlay(join(directory, OVERLAY), {
    path: join(directory, DISK),
    format: "raw",
    finalPath,
  });
}
