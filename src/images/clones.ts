/** Clones: a VM's own copy-on-write disk, made in a time that does not depend on the image's size. */
import { chmod, constants, copyFile, rm, stat } from "node:fs/promises";
import * as z from "zod";
import { systemErrorCode } from "../errors.ts";
import { run } from "../host/run.ts";

const ImageInfo = z.object({ "virtual-size": z.number() });

export interface Clone {
  path: string;
  format: "raw" | "qcow2";
}

/** What file systems answer that have no reflinks (ext4, tmpfs, XFS without them), or when the two paths are on different ones. */
const NO_REFLINK = new Set(["ENOTSUP", "EOPNOTSUPP", "ENOSYS", "ENOTTY", "EINVAL", "EXDEV", "EPERM"]);

/** A golden image, or a snapshot of one. */
export interface CloneSource {
  diskPath: string;
  diskFormat: Clone["format"];
  overlayPath: string;
}

/**
 * Makes a clone of a golden image's or snapshot's disk at `path`: a reflink where the file system has it, else a qcow2 overlay on it.
 * Neither writes to the source, which must stay as long as the clone does.
 */
export async function createClone(source: CloneSource, path: string): Promise<Clone> {
  if (await reflink(source.diskPath, path)) return { path, format: source.diskFormat };
  // A copy of an empty overlay is an empty overlay: its backing file is named by an absolute path.
  await copyOrRemove(source.overlayPath, path, 0);
  return { path, format: "qcow2" };
}

/**
 * Writes the empty overlay of a disk whose folder gets its final name only later.
 * Made once: to copy it takes a third of the time that a new one does.
 */
export async function writeEmptyOverlay(path: string, disk: Clone & { finalPath: string }): Promise<void> {
  const backing = ["-u", "-F", disk.format, "-b", disk.finalPath];
  await run("qemu-img", ["create", "-q", "-f", "qcow2", ...backing, path, String(await virtualSize(disk))]);
}

async function virtualSize({ path, format }: Clone): Promise<number> {
  if (format === "raw") return (await stat(path)).size;
  const { stdout } = await run("qemu-img", ["info", "--output=json", "--", path]);
  return ImageInfo.parse(JSON.parse(stdout))["virtual-size"];
}

async function reflink(source: string, target: string): Promise<boolean> {
  try {
    // FORCE: without it Node falls back to a copy that fills every hole of a sparse image.
    await copyOrRemove(source, target, constants.COPYFILE_FICLONE_FORCE);
    return true;
  } catch (error) {
    if (NO_REFLINK.has(systemErrorCode(error) ?? "")) return false;
    throw error;
  }
}

async function copyOrRemove(source: string, target: string, mode: number): Promise<void> {
  try {
    await copyFile(source, target, mode | constants.COPYFILE_EXCL);
    // The golden image is read-only, and its copy inherits that.
    await chmod(target, 0o600);
  } catch (error) {
    if (systemErrorCode(error) !== "EEXIST") await rm(target, { force: true });
    throw error;
  }
}
