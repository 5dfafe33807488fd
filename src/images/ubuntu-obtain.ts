/** Makes a base image of the verified files of an index: fetched, checked, unpacked, published. */
import { createHash } from "node:crypto";
import { copyFile } from "node:fs/promises";
import { join } from "node:path";
import { FleetingdError } from "../errors.ts";
import { explainDiskFull } from "../host/disk-full.ts";
import { downloadFile } from "../host/download.ts";
import { removeTree } from "../host/files.ts";
import type { HttpOptions, RetryOptions } from "../host/http.ts";
import { readBaseImage, writeBaseImage } from "./base-store.ts";
import { importDisk, inspectDisk } from "./disk-file.ts";
import type { BaseImage, OnProgress } from "./image.ts";
import { publishDirectory } from "./publish.ts";
import { downloadsDirectory } from "./ubuntu-cache.ts";
import type { RemoteFile, UbuntuIndex } from "./ubuntu-index.ts";

export interface ObtainOptions {
  diskDirectory: string;
  stream: string;
  http: HttpOptions & RetryOptions;
  signal?: AbortSignal | undefined;
  onProgress?: OnProgress | undefined;
}

/** Part of every name, so that what was unpacked in another way is another image. */
const LAYOUT = "1";

/**
 * The image of these files: the published one, or a new one. Callers hold the base images' lock.
 * @throws FleetingdError UNAVAILABLE, NOT_FOUND, VERIFICATION_FAILED, EXHAUSTED, CANCELLED
 */
export async function obtainUbuntuImage(index: UbuntuIndex, options: ObtainOptions): Promise<BaseImage> {
  const { diskDirectory, stream } = options;
  const sums = [index.disk, index.kernel, index.initrd].map(({ sha256 }) => sha256);
  const hash = createHash("sha256")
    .update(JSON.stringify([LAYOUT, ...sums]))
    .digest("hex");
  const name = `ubuntu-cloud-${index.series}-${stream}-${hash.slice(0, 12)}`;
  const directory = join(diskDirectory, "base", name);
  const existing = await readBaseImage(directory);
  if (existing !== undefined) {
    // Whoever published it may have been killed before it cleaned up.
    await removeDownloads(sums, diskDirectory);
    return existing;
  }
  const kernel = await fetchFile(index.kernel, "downloading the kernel", options);
  const initrd = await fetchFile(index.initrd, "downloading the initrd", options);
  const disk = await fetchFile(index.disk, "downloading the disk image", options);
  options.onProgress?.({ step: "unpacking the disk image" });
  try {
    await publishDirectory(directory, (temporary) =>
      unpack({ disk, kernel, initrd }, temporary, name, options.signal),
    );
  } catch (error) {
    throw explainDiskFull(error, "the unpacked disk image", join(diskDirectory, "base"));
  }
  await removeDownloads(sums, diskDirectory);
  const image = await readBaseImage(directory);
  if (image === undefined)
    throw new FleetingdError("INTERNAL", `${directory} was published but cannot be read`);
  return image;
}

async function fetchFile({ url, sha256 }: RemoteFile, step: string, options: ObtainOptions): Promise<string> {
  const partialPath = downloadPath(sha256, options.diskDirectory);
  const onProgress = (doneBytes: number, totalBytes: number | undefined): void =>
    options.onProgress?.({ step, doneBytes, ...(totalBytes === undefined ? {} : { totalBytes }) });
  await downloadFile({ ...options.http, url, partialPath, sha256, onProgress });
  return partialPath;
}

function downloadPath(sha256: string, diskDirectory: string): string {
  return join(downloadsDirectory(diskDirectory), `${sha256}.part`);
}

async function removeDownloads(sums: readonly string[], diskDirectory: string): Promise<void> {
  for (const sha256 of sums) await removeTree(downloadPath(sha256, diskDirectory));
}

async function unpack(
  parts: { disk: string; kernel: string; initrd: string },
  directory: string,
  name: string,
  signal: AbortSignal | undefined,
): Promise<void> {
  await importDisk(parts.disk, await inspectDisk(parts.disk, signal), join(directory, "disk.raw"), signal);
  await copyFile(parts.kernel, join(directory, "kernel"));
  await copyFile(parts.initrd, join(directory, "initrd"));
  await writeBaseImage(directory, {
    name,
    disk: "disk.raw",
    diskFormat: "raw",
    kernel: "kernel",
    initrd: "initrd",
    // Not the label that its own boot loader uses: only an initrd could read that, and clones may boot without one.
    rootDevice: "/dev/vda1",
    kernelArguments: [],
    createdAt: new Date().toISOString(),
  });
}
