/** Clones: a VM's own copy-on-write disk, made in a time that does not depend on the image's size. */
import { chmod, constants, copyFile, rm } from "node:fs/promises";
import { systemErrorCode } from "../errors.ts";
import { emptyOverlayPath } from "./golden.ts";
import type { GoldenImage } from "./image.ts";

export interface Clone {
  path: string;
  format: "raw" | "qcow2";
}

/** What file systems answer that have no reflinks (ext4, tmpfs, XFS without them), or when the two paths are on different ones. */
const NO_REFLINK = new Set(["ENOTSUP", "EOPNOTSUPP", "ENOSYS", "ENOTTY", "EINVAL", "EXDEV", "EPERM"]);

/**
 * Makes a clone of a golden image's disk at `path`: a reflink where the file system has it, else a qcow2 overlay on it.
 * Neither writes to the golden image, which must stay as long as the clone does.
 */
export async function createClone(golden: GoldenImage, path: string): Promise<Clone> {
  if (await reflink(golden.diskPath, path)) return { path, format: "raw" };
  // A copy of an empty overlay is an empty overlay: its backing file is named by an absolute path.
  await copyOrRemove(emptyOverlayPath(golden), path, 0);
  return { path, format: "qcow2" };
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
