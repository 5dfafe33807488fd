/** Files that survive a crash: atomic, durable writes and reads that tell "absent" from "failed". */
import { randomBytes } from "node:crypto";
import {
  access,
  chmod,
  constants,
  mkdir,
  open,
  readdir,
  readFile,
  rename,
  rm,
  stat,
  statfs,
} from "node:fs/promises";
import { dirname, join } from "node:path";
import { systemErrorCode } from "../errors.ts";

const OTHERS_PASS = 0o001;

/** Writes the whole file or nothing: temporary file, fsync, rename, fsync of the folder. */
export async function writeFileAtomic(path: string, data: string | Uint8Array, mode = 0o600): Promise<void> {
  const temporary = `${path}.${randomBytes(6).toString("hex")}.tmp`;
  try {
    const file = await open(temporary, "wx", mode);
    try {
      await file.writeFile(data);
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(temporary, path);
  } catch (error) {
    await rm(temporary, { force: true });
    throw error;
  }
  await syncDirectory(dirname(path));
}

/** Makes what was created, renamed or removed in `path` durable. */
export async function syncDirectory(path: string): Promise<void> {
  const directory = await open(path, "r");
  try {
    await directory.sync();
  } finally {
    await directory.close();
  }
}

/** The file's text, or undefined if there is no such file; every other failure throws. */
export async function readTextIfExists(path: string): Promise<string | undefined> {
  return ifExists(readFile(path, "utf8"));
}

/** The names in a folder, or none if there is no such folder; every other failure throws. */
export async function listDirectory(path: string): Promise<string[]> {
  return (await ifExists(readdir(path))) ?? [];
}

/** Like `listDirectory`, but only the folders in it. */
export async function listFolders(path: string): Promise<string[]> {
  const entries = (await ifExists(readdir(path, { withFileTypes: true }))) ?? [];
  return entries.filter((entry) => entry.isDirectory()).map(({ name }) => name);
}

export async function exists(path: string): Promise<boolean> {
  return (await ifExists(access(path, constants.F_OK).then(() => true))) ?? false;
}

/** Makes a folder and those above it. (Node's own recursive mkdir never ends below /proc.) */
export async function ensureDirectory(path: string, mode = 0o700): Promise<void> {
  const isThere = async (): Promise<boolean> => (await ifExists(stat(path)))?.isDirectory() ?? false;
  if (await isThere()) return;
  await ensureDirectory(dirname(path), mode);
  try {
    await mkdir(path, { mode });
  } catch (error) {
    // Somebody else has just made it.
    if (systemErrorCode(error) !== "EEXIST" || !(await isThere())) throw error;
  }
}

/** Lets other users get through the folders from `root`, included, down to `path`, though not see what is in them. */
export async function makePassable(root: string, path: string): Promise<void> {
  if (path !== root && !path.startsWith(`${root}/`)) return;
  const { mode } = await stat(path);
  if ((mode & OTHERS_PASS) === 0) await chmod(path, (mode & 0o7777) | OTHERS_PASS);
  await makePassable(root, dirname(path));
}

/** Like `ensureDirectory`, and what it makes is still there after a power cut. */
export async function ensureDurableDirectory(path: string): Promise<void> {
  if (await exists(path)) return;
  await ensureDurableDirectory(dirname(path));
  await ensureDirectory(path);
  await syncDirectory(dirname(path));
}

/** Removes a file or a whole folder; that it is absent already is fine. */
export async function removeTree(path: string): Promise<void> {
  await rm(path, { recursive: true, force: true, maxRetries: 3 });
}

/** Bytes that an unprivileged writer may still use on the file system of `path`. */
export async function freeBytes(path: string): Promise<number> {
  const stats = await statfs(path);
  return stats.bavail * stats.bsize;
}

/** The first directory of PATH that has `program`, joined with it; undefined if none has. */
export async function findProgram(program: string): Promise<string | undefined> {
  for (const directory of pathDirectories()) {
    const path = join(directory, program);
    if (await isExecutable(path)) return path;
  }
  return undefined;
}

/** Makes nft, mke2fs and the like known, also where somebody's PATH has no sbin, as after `su` on Debian. */
export function addSystemDirectoriesToPath(): void {
  const directories = pathDirectories();
  const missing = ["/usr/sbin", "/sbin"].filter((directory) => !directories.includes(directory));
  process.env["PATH"] = [...directories, ...missing].join(":");
}

function pathDirectories(): string[] {
  return (process.env["PATH"] ?? "").split(":").filter((entry) => entry !== "");
}

async function isExecutable(path: string): Promise<boolean> {
  try {
    await access(path, constants.X_OK);
    return true;
  } catch (error) {
    const code = systemErrorCode(error);
    if (code === "ENOENT" || code === "EACCES" || code === "ENOTDIR") return false;
    throw error;
  }
}

/** Undefined if the file that this is about does not exist; every other failure throws. */
export async function ifExists<T>(operation: Promise<T>): Promise<T | undefined> {
  try {
    return await operation;
  } catch (error) {
    if (systemErrorCode(error) === "ENOENT") return undefined;
    throw error;
  }
}
