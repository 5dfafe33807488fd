/** A folder of files appears whole under its final name, or not at all. */
import { randomBytes } from "node:crypto";
import { open, readdir, readFile, rename } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { systemErrorCode } from "../errors.ts";
import { ensureDirectory, removeTree, syncDirectory } from "../host/files.ts";
import { run } from "../host/run.ts";

/** What unfinished folders are called; a sweep may remove them when nobody builds. */
export const UNFINISHED = /^\.[\w.-]+\.[0-9a-f]{12}\.tmp$/;

/**
 * Runs `build` in a new folder beside `path`, makes its files durable and renames it to `path`. If `path` exists
 * by then, that one stays and ours is dropped: content of one name is the same. If `build` throws, nothing is left.
 */
export async function publishDirectory(
  path: string,
  build: (temporary: string) => Promise<void>,
): Promise<void> {
  const parent = dirname(path);
  await ensureDirectory(parent);
  const temporary = temporaryBeside(path);
  try {
    await ensureDirectory(temporary);
    await build(temporary);
    await syncFiles(temporary);
    await renameUnlessThere(temporary, path);
  } finally {
    await removeBuildTree(temporary);
  }
  await syncDirectory(parent);
}

/** Removes what was published: it is gone as a whole before anything of it is; absent is fine. */
export async function unpublishDirectory(path: string): Promise<void> {
  const doomed = temporaryBeside(path);
  try {
    await rename(path, doomed);
  } catch (error) {
    if (systemErrorCode(error) === "ENOENT") return;
    throw error;
  }
  await syncDirectory(dirname(path));
  await removeBuildTree(doomed);
}

/** A name that matches `UNFINISHED`. */
function temporaryBeside(path: string): string {
  return join(dirname(path), `.${basename(path)}.${randomBytes(6).toString("hex")}.tmp`);
}

async function renameUnlessThere(from: string, to: string): Promise<void> {
  try {
    await rename(from, to);
  } catch (error) {
    const code = systemErrorCode(error);
    if (code !== "ENOTEMPTY" && code !== "EEXIST") throw error;
  }
}

async function syncFiles(directory: string): Promise<void> {
  for (const entry of await readdir(directory, { withFileTypes: true })) {
    const path = join(directory, entry.name);
    if (entry.isDirectory()) await syncFiles(path);
    if (!entry.isFile()) continue;
    const file = await open(path, "r");
    try {
      await file.sync();
    } finally {
      await file.close();
    }
  }
  await syncDirectory(directory);
}

/**
 * Removes a folder in which a system may have been built. Anything still mounted in it is detached first: to
 * delete through a forgotten mount of /dev or /sys would delete the host's.
 */
export async function removeBuildTree(path: string): Promise<void> {
  for (const mountPoint of mountPointsBelow(await readFile("/proc/self/mountinfo", "utf8"), path)) {
    await run("umount", ["--lazy", mountPoint]);
  }
  await removeTree(path);
}

/** The mount points in `path`, innermost first, by the text of /proc/self/mountinfo. */
export function mountPointsBelow(mountInfo: string, path: string): string[] {
  return mountInfo
    .split("\n")
    .map((line) => (line.split(" ")[4] ?? "").replace(/\\([0-7]{3})/g, (_, octal) => unescapeOctal(octal)))
    .filter((mountPoint) => mountPoint.startsWith(`${path}/`))
    .reverse();
}

function unescapeOctal(octal: string): string {
  return String.fromCharCode(Number.parseInt(octal, 8));
}
