/**
 * Which published base image stands for what was asked for: `base/.current-ubuntu-cloud-…` is written after the image is in
 * place, and is all that is needed when no server answers.
 */
import { createHash } from "node:crypto";
import { stat } from "node:fs/promises";
import { join } from "node:path";
import * as z from "zod";
import { systemErrorCode } from "../errors.ts";
import { listDirectory, readTextIfExists, removeTree, writeFileAtomic } from "../host/files.ts";
import type { Logger } from "../log.ts";
import { readBaseImage } from "./base-store.ts";
import type { BaseImage } from "./image.ts";
import { removeBuildTree, UNFINISHED, unpublishDirectory } from "./publish.ts";

export interface CacheKey {
  diskDirectory: string;
  series: string;
  stream: string;
  architecture: string;
  keyring: string;
}

export interface CachedImage {
  image: BaseImage;
  /** The series that was asked for, or what `lts` meant then. */
  series: string;
  signedAt: Date;
  /** When a server last confirmed it. */
  checkedAt: Date;
}

const Pointer = z.object({
  name: z.string(),
  series: z.string(),
  signedAt: z.iso.datetime(),
  checkedAt: z.iso.datetime(),
});
const POINTER_PREFIX = ".current-ubuntu-cloud-";
const IMAGE_PREFIX = "ubuntu-cloud-";
const STALE_DOWNLOAD_MS = 7 * 24 * 60 * 60_000;

export function downloadsDirectory(diskDirectory: string): string {
  return join(diskDirectory, "downloads");
}

/** The image in the cache, or undefined if there is none that is whole. */
export async function readCached(key: CacheKey, logger: Logger): Promise<CachedImage | undefined> {
  const path = pointerPath(key);
  const text = await readTextIfExists(path);
  const pointer = text === undefined ? undefined : parsePointer(text);
  if (pointer === undefined) {
    if (text !== undefined) logger.warn(`${path} cannot be read; the image is looked for anew`);
    return undefined;
  }
  const image = await readBaseImage(join(key.diskDirectory, "base", pointer.name));
  if (image === undefined) return undefined;
  const { series, signedAt, checkedAt } = pointer;
  return { image, series, signedAt: new Date(signedAt), checkedAt: new Date(checkedAt) };
}

/** Whether anything was ever fetched for that series and stream, by whatever keys. */
export async function hasCached(
  diskDirectory: string,
  { series, stream }: Pick<CacheKey, "series" | "stream">,
): Promise<boolean> {
  const names = await listDirectory(join(diskDirectory, "base"));
  return names.some((name) => name.startsWith(`${POINTER_PREFIX}${series}-${stream}-`));
}

export async function rememberCached(key: CacheKey, cached: CachedImage): Promise<void> {
  const pointer: z.infer<typeof Pointer> = {
    name: cached.image.name,
    series: cached.series,
    signedAt: cached.signedAt.toISOString(),
    checkedAt: cached.checkedAt.toISOString(),
  };
  await writeFileAtomic(pointerPath(key), `${JSON.stringify(pointer, null, 2)}\n`);
}

/**
 * Removes Ubuntu images that nothing points to any more; golden images are copies and do not need them. Nothing is
 * removed while any pointer cannot be read.
 */
export async function removeSuperseded(diskDirectory: string): Promise<void> {
  const base = join(diskDirectory, "base");
  const names = await listDirectory(base);
  const wanted = new Set<string>();
  for (const name of names.filter((entry) => entry.startsWith(POINTER_PREFIX) && !entry.endsWith(".tmp"))) {
    const pointer = parsePointer((await readTextIfExists(join(base, name))) ?? "");
    if (pointer === undefined) return;
    wanted.add(pointer.name);
  }
  for (const name of names) {
    if (name.startsWith(IMAGE_PREFIX) && !wanted.has(name)) await unpublishDirectory(join(base, name));
  }
}

/** Removes what a killed process left half-made. Callers hold the base images' lock. */
export async function removeUnfinished(diskDirectory: string, prefix: string): Promise<void> {
  const base = join(diskDirectory, "base");
  for (const name of await listDirectory(base)) {
    const ours = name.startsWith(`.${prefix}`) && UNFINISHED.test(name);
    const pointer = name.startsWith(POINTER_PREFIX) && name.endsWith(".tmp");
    if (ours || pointer) await removeBuildTree(join(base, name));
  }
}

/** Removes signatures' leftovers and the beginnings of downloads that nobody has gone on with for a week. */
export async function removeStaleDownloads(diskDirectory: string): Promise<void> {
  const directory = downloadsDirectory(diskDirectory);
  for (const name of await listDirectory(directory)) {
    const path = join(directory, name);
    if (name.startsWith("verify-") || (await ageMs(path)) > STALE_DOWNLOAD_MS) await removeTree(path);
  }
}

async function ageMs(path: string): Promise<number> {
  try {
    return Date.now() - (await stat(path)).mtimeMs;
  } catch (error) {
    // Somebody removed it meanwhile.
    if (systemErrorCode(error) === "ENOENT") return 0;
    throw error;
  }
}

/** The name of the image that a pointer's text names, or undefined if it cannot be read. */
export function pointedImage(text: string): string | undefined {
  return parsePointer(text)?.name;
}

function parsePointer(text: string): z.infer<typeof Pointer> | undefined {
  try {
    return Pointer.parse(JSON.parse(text));
  } catch {
    // It only points: whoever asked says what becomes of one that is broken.
    return undefined;
  }
}

/** Images that other keys have signed are other images, though the server's names for them are the same. */
function pointerPath({ diskDirectory, series, stream, architecture, keyring }: CacheKey): string {
  const keys = createHash("sha256").update(keyring).digest("hex").slice(0, 8);
  return join(diskDirectory, "base", `${POINTER_PREFIX}${series}-${stream}-${architecture}-${keys}`);
}
