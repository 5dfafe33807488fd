/**
 * Golden images: `<diskDirectory>/golden/<name>/{disk.raw, kernel, initrd, overlay.qcow2, image.json, report/}`.
 * A folder under that name is complete and never changes; it is removed as a whole.
 */
import { createHash } from "node:crypto";
import { chmod, copyFile, stat } from "node:fs/promises";
import { join, resolve } from "node:path";
import * as z from "zod";
import { FleetingdError } from "../errors.ts";
import { ensureDirectory, listDirectory, readTextIfExists, writeFileAtomic } from "../host/files.ts";
import { run } from "../host/run.ts";
import { writeEmptyOverlay } from "./clones.ts";
import type { BaseImage, GoldenImage } from "./image.ts";
import { buildInitrd } from "./initrd.ts";
import { publishDirectory, unpublishDirectory } from "./publish.ts";
import { type PrebuildReport, saveReport } from "./report.ts";

/** All that decides what a golden image holds. */
export interface GoldenInputs {
  baseName: string;
  /** The prebuild's whole user-data. */
  userData: string;
  diskSizeGiB: number;
  bootProfile: string;
  templateVersion: string;
}

const GIB = 1024 ** 3;
const COPY_TIMEOUT_MS = 15 * 60_000;
const DISK = "disk.raw";
const OVERLAY = "overlay.qcow2";
const DESCRIPTION = "image.json";

const Stored = z.object({
  name: z.string(),
  inputs: z.string().optional(),
  baseName: z.string().optional(),
  initrd: z.boolean(),
  rootDevice: z.string(),
  kernelArguments: z.array(z.string()),
  createdAt: z.iso.datetime(),
});

/** The golden image's name: 16 hexadecimal digits, the same for the same inputs. */
export function goldenName(inputs: GoldenInputs): string {
  const ordered = [
    inputs.baseName,
    inputs.userData,
    inputs.diskSizeGiB,
    inputs.bootProfile,
    inputs.templateVersion,
  ];
  return createHash("sha256").update(JSON.stringify(ordered)).digest("hex").slice(0, 16);
}

/** Where a golden image's disk is; it need not exist. */
export const goldenDiskPath = (diskDirectory: string, name: string): string =>
  join(diskDirectory, "golden", name, DISK);

/** The golden image of that name, or undefined if there is none. */
export async function findGolden(diskDirectory: string, name: string): Promise<GoldenImage | undefined> {
  const directory = join(diskDirectory, "golden", name);
  const path = join(directory, DESCRIPTION);
  const text = await readTextIfExists(path);
  if (text === undefined) return undefined;
  const stored = parse(path, text);
  return {
    name,
    inputs: stored.inputs ?? name,
    baseName: stored.baseName,
    directory,
    diskPath: join(directory, DISK),
    diskFormat: "raw",
    overlayPath: join(directory, OVERLAY),
    kernelPath: join(directory, "kernel"),
    initrdPath: stored.initrd ? join(directory, "initrd") : undefined,
    rootDevice: stored.rootDevice,
    kernelArguments: stored.kernelArguments,
    createdAt: new Date(stored.createdAt),
  };
}

/** All golden images, newest first. */
export async function listGolden(diskDirectory: string): Promise<GoldenImage[]> {
  const images: GoldenImage[] = [];
  for (const name of await listDirectory(join(diskDirectory, "golden"))) {
    const image = name.startsWith(".") ? undefined : await findGolden(diskDirectory, name);
    if (image !== undefined) images.push(image);
  }
  return images.sort((a, b) => b.createdAt.getTime() - a.createdAt.getTime());
}

/** Removes a golden image; absent is fine. The caller knows that no VM uses it. */
export async function removeGolden(diskDirectory: string, name: string): Promise<void> {
  await unpublishDirectory(join(diskDirectory, "golden", name));
}

/**
 * Makes the golden image `name`: `build` gets a folder of its own, makes the disk there (see `createWorkDisk`), runs the
 * prebuild, and ends with `completeGolden`. If it throws, nothing is left. Callers hold the images lock.
 */
export async function publishGolden(
  diskDirectory: string,
  name: string,
  build: (directory: string) => Promise<void>,
): Promise<GoldenImage> {
  await publishDirectory(join(diskDirectory, "golden", name), build);
  const image = await findGolden(diskDirectory, name);
  if (image === undefined)
    throw new FleetingdError("INTERNAL", `the build of golden image ${name} left none`);
  return image;
}

/**
 * A writable, sparse, raw copy of a base image's disk, `diskSizeGiB` large, as `disk.raw` in `directory`; returns its path.
 * @throws FleetingdError INVALID_ARGUMENT if the base image is larger than that.
 */
export async function createWorkDisk(
  directory: string,
  base: BaseImage,
  diskSizeGiB: number,
  signal?: AbortSignal,
): Promise<string> {
  const path = join(directory, DISK);
  await ensureDirectory(directory);
  const options = { signal, timeoutMs: COPY_TIMEOUT_MS };
  // Not Node's copyFile: where there are no reflinks it would write every hole of a sparse file.
  if (base.diskFormat === "raw") {
    await run(
      "cp",
      ["--reflink=auto", "--sparse=always", "--no-preserve=mode", base.diskPath, path],
      options,
    );
  } else {
    await run("qemu-img", ["convert", "-f", "qcow2", "-O", "raw", base.diskPath, path], options);
  }
  await chmod(path, 0o600);
  const { size } = await stat(path);
  if (size > diskSizeGiB * GIB) {
    const sizeGiB = Math.ceil(size / GIB);
    throw new FleetingdError(
      "INVALID_ARGUMENT",
      `the base image ${base.name} needs ${sizeGiB} GiB, but the VMs' disks are to have ${diskSizeGiB} GiB`,
      { hint: `Set vm_disk_size_gb to ${sizeGiB} or more.` },
    );
  }
  await run("truncate", [`--size=${diskSizeGiB}G`, path], options);
  return path;
}

/**
 * Puts everything beside the finished `disk.raw` in `directory`: kernel, an initrd for what the guest reported, an empty overlay to
 * make clones from, the report, the description.
 */
export async function completeGolden(
  directory: string,
  golden: { diskDirectory: string; name: string; inputs: string; base: BaseImage; report: PrebuildReport },
): Promise<void> {
  const { base, report } = golden;
  await copyFile(base.kernelPath, join(directory, "kernel"));
  const initrd = await writeInitrd(join(directory, "initrd"), base, report);
  const finalPath = resolve(golden.diskDirectory, "golden", golden.name, DISK);
  await writeEmptyOverlay(join(directory, OVERLAY), {
    path: join(directory, DISK),
    format: "raw",
    finalPath,
  });
  await saveReport(report, join(directory, "report"));
  await chmod(join(directory, DISK), 0o400);
  const known = report.kernel.rootDevice.startsWith("/dev/");
  const stored: z.infer<typeof Stored> = {
    name: golden.name,
    inputs: golden.inputs,
    baseName: base.name,
    initrd,
    // The guest's own word works without udev's links; a label would need an initrd that can read it.
    rootDevice: known ? report.kernel.rootDevice : base.rootDevice,
    kernelArguments: [...base.kernelArguments, ...rootFlags(report.kernel.rootType)],
    createdAt: new Date().toISOString(),
  };
  await writeFileAtomic(join(directory, DESCRIPTION), `${JSON.stringify(stored, null, 2)}\n`);
}

/** Writes the initrd that clones boot with; false if the kernel needs none. */
async function writeInitrd(path: string, base: BaseImage, { kernel }: PrebuildReport): Promise<boolean> {
  if (kernel.modules.length > 0) {
    await writeFileAtomic(path, await buildInitrd(kernel.modules));
    return true;
  }
  // Nothing reported at all: only the base's own initrd is known to work.
  const allBuiltIn = kernel.release !== "" && kernel.missing.length === 0;
  if (allBuiltIn || base.initrdPath === undefined) return false;
  await copyFile(base.initrdPath, path);
  return true;
}

function rootFlags(rootType: string): string[] {
  // Zeroing the inode tables of a grown file system would only fill every clone's overlay.
  if (rootType === "ext4") return ["rootfstype=ext4", "rootflags=noinit_itable"];
  return rootType === "" ? [] : [`rootfstype=${rootType}`];
}

function parse(path: string, text: string): z.infer<typeof Stored> {
  try {
    return Stored.parse(JSON.parse(text));
  } catch (error) {
    throw new FleetingdError("CORRUPT", `${path} does not describe a golden image`, {
      hint: "Remove its folder; the image is then made again.",
      cause: error,
    });
  }
}
