/**
 * `files`: the operator's own disk and kernel, copied into the cache so that what golden images were made of cannot change
 * under them.
 *
 * A file is known by its checksum where one is configured, otherwise by path, size and time of change: to read whole
 * disks at every start only to learn that they are the same would take minutes. Who changes a disk in place *and* sets its old
 * time again must give a checksum.
 */
import { createHash } from "node:crypto";
import { stat } from "node:fs/promises";
import { join } from "node:path";
import { FleetingdError, systemErrorCode } from "../errors.ts";
import { explainDiskFull } from "../host/disk-full.ts";
import { findProgram } from "../host/files.ts";
import { sha256OfFile } from "../host/sha256.ts";
import { withBaseLock } from "./base-lock.ts";
import { readBaseImage, writeBaseImage } from "./base-store.ts";
import { copySparse, importDisk, inspectDisk } from "./disk-file.ts";
import type { BaseImage, OnProgress } from "./image.ts";
import type { FilesSource } from "./image-config.ts";
import { publishDirectory } from "./publish.ts";
import { removeUnfinished } from "./ubuntu-cache.ts";

export interface FilesImageOptions {
  /** Images go to `<diskDirectory>/base/<name>/`. */
  diskDirectory: string;
  signal?: AbortSignal | undefined;
  onProgress?: OnProgress | undefined;
}

interface Part {
  /** Names it in messages: `disk image`. */
  what: string;
  path: string;
  sha256: string | undefined;
}

const LAYOUT = "1";

/**
 * The base image of these files: from the cache if they were imported before, otherwise checked and copied.
 * @throws FleetingdError NOT_FOUND, PERMISSION, INVALID_ARGUMENT (no self-contained raw or qcow2 disk), VERIFICATION_FAILED
 *   (checksum), EXHAUSTED, MISSING_PROGRAM, CANCELLED
 */
export async function ensureFilesImage(source: FilesSource, options: FilesImageOptions): Promise<BaseImage> {
  const { diskDirectory } = options;
  const parts = partsOf(source);
  const { rootDevice, kernelArguments } = source;
  const identity = JSON.stringify([
    LAYOUT,
    await Promise.all(parts.map(identify)),
    rootDevice,
    kernelArguments,
  ]);
  const name = `files-${createHash("sha256").update(identity).digest("hex").slice(0, 12)}`;
  const directory = join(diskDirectory, "base", name);
  return withBaseLock(options, async () => {
    await removeUnfinished(diskDirectory, "files-");
    const existing = await readBaseImage(directory);
    if (existing !== undefined) return existing;
    await requireQemuImg();
    try {
      await publishDirectory(directory, (temporary) => importFiles(source, name, temporary, options));
    } catch (error) {
      throw explainDiskFull(error, `a copy of ${source.disk}`, join(diskDirectory, "base"));
    }
    const image = await readBaseImage(directory);
    if (image === undefined)
      throw new FleetingdError("INTERNAL", `${directory} was published but cannot be read`);
    return image;
  });
}

function partsOf(source: FilesSource): Part[] {
  const { initrd } = source;
  return [
    { what: "disk image", path: source.disk, sha256: source.diskSha256 },
    { what: "kernel", path: source.kernel, sha256: source.kernelSha256 },
    ...(initrd === undefined ? [] : [{ what: "initrd", path: initrd, sha256: source.initrdSha256 }]),
  ];
}

/** The same as long as the file is; see the top of this file. */
async function identify({ what, path, sha256 }: Part): Promise<readonly string[]> {
  if (sha256 !== undefined) return [what, sha256];
  return [what, path, ...(await versionOf(what, path))];
}

async function versionOf(what: string, path: string): Promise<string[]> {
  try {
    const stats = await stat(path, { bigint: true });
    if (stats.isFile()) return [`${stats.size}`, `${stats.mtimeNs}`];
  } catch (error) {
    const code = systemErrorCode(error);
    const reason = code === "ENOENT" || code === "ENOTDIR" ? "does not exist" : "cannot be read";
    throw new FleetingdError(
      reason === "cannot be read" ? "PERMISSION" : "NOT_FOUND",
      `the ${what} ${path} ${reason}`,
      { hint: "Correct the path in the image's configuration.", cause: error },
    );
  }
  throw new FleetingdError("INVALID_ARGUMENT", `the ${what} ${path} is not a regular file`, {
    hint: "Name a file, not a folder or a device.",
  });
}

async function importFiles(
  source: FilesSource,
  name: string,
  directory: string,
  { signal, onProgress }: FilesImageOptions,
): Promise<void> {
  const parts = partsOf(source);
  const versions = async (): Promise<string> =>
    JSON.stringify(await Promise.all(parts.map(({ what, path }) => versionOf(what, path))));
  const before = await versions();
  for (const part of parts) {
    if (part.sha256 === undefined) continue;
    onProgress?.({ step: `checking the ${part.what}` });
    await requireChecksum(part, part.sha256, signal);
  }
  onProgress?.({ step: "copying the disk image" });
  await importDisk(source.disk, await inspectDisk(source.disk, signal), join(directory, "disk.raw"), signal);
  await copySparse(source.kernel, join(directory, "kernel"), signal);
  if (source.initrd !== undefined) await copySparse(source.initrd, join(directory, "initrd"), signal);
  if ((await versions()) !== before) {
    throw new FleetingdError(
      "VERIFICATION_FAILED",
      `${source.disk}, or a file with it, changed while it was copied`,
      {
        hint: "Do not write to the image's files while fleetingd uses them; put a new file in place by renaming it.",
      },
    );
  }
  await writeBaseImage(directory, {
    name,
    disk: "disk.raw",
    diskFormat: "raw",
    kernel: "kernel",
    ...(source.initrd === undefined ? {} : { initrd: "initrd" }),
    rootDevice: source.rootDevice,
    kernelArguments: [...source.kernelArguments],
    createdAt: new Date().toISOString(),
  });
}

async function requireChecksum(part: Part, expected: string, signal: AbortSignal | undefined): Promise<void> {
  const sum = await sha256OfFile(part.path, { signal });
  if (sum === expected.toLowerCase()) return;
  throw new FleetingdError(
    "VERIFICATION_FAILED",
    `the ${part.what} ${part.path} has the SHA-256 sum ${sum}, not ${expected}`,
    { hint: "Correct the checksum in the image's configuration, or get the file again." },
  );
}

async function requireQemuImg(): Promise<void> {
  if ((await findProgram("qemu-img")) !== undefined) return;
  throw new FleetingdError("MISSING_PROGRAM", "a disk image needs qemu-img, which was not found on PATH", {
    hint: "Install the package qemu-utils.",
  });
}
