/**
 * `ubuntu-cloud`: Ubuntu's published cloud images, or a mirror's.
 *
 * Invariants:
 * - `base/<name>/` appears whole, after a key of the keyring has signed the list and every file has its sum.
 * - Only the holder of `.base.lock` downloads or publishes; the next one finds the result.
 * - Beginnings of downloads stay in `downloads/<sha256>.part` until the image that they belong to is published.
 */
import { FleetingdError, messageOf } from "../errors.ts";
import { explainDiskFull } from "../host/disk-full.ts";
import { ensureDirectory } from "../host/files.ts";
import type { Logger } from "../log.ts";
import { withBaseLock } from "./base-lock.ts";
import type { BaseImage } from "./image.ts";
import type { UbuntuCloudSource } from "./image-config.ts";
import {
  type CachedImage,
  downloadsDirectory,
  readCached,
  rememberCached,
  removeStaleDownloads,
  removeSuperseded,
  removeUnfinished,
} from "./ubuntu-cache.ts";
import { readUbuntuIndex, type UbuntuIndex } from "./ubuntu-index.ts";
import { obtainUbuntuImage } from "./ubuntu-obtain.ts";
import { prepareUbuntuWork, type UbuntuCloudOptions, type UbuntuWork } from "./ubuntu-work.ts";

export const UBUNTU_MIRROR = "https://cloud-images.ubuntu.com";

/** Failures of servers and networks, which an image that is here already makes good. */
const SURVIVABLE = new Set(["UNAVAILABLE", "NOT_FOUND", "VERIFICATION_FAILED", "TIMEOUT", "EXHAUSTED"]);
/** Failures that no other mirror would make good. */
const FINAL = new Set([
  "CANCELLED",
  "EXHAUSTED",
  "MISSING_PROGRAM",
  "INVALID_CONFIG",
  "INVALID_ARGUMENT",
  "PERMISSION",
]);

/**
 * The newest image that a mirror has: from the cache if it is there already, otherwise downloaded, verified and unpacked.
 * If no mirror can give it, the newest one in the cache with a warning that says how old it is. Callers hold the images lock,
 * for images that have been superseded are removed.
 * @throws FleetingdError UNAVAILABLE, NOT_FOUND, VERIFICATION_FAILED, EXHAUSTED (nothing in the cache either); CANCELLED,
 *   MISSING_PROGRAM, INVALID_ARGUMENT, INVALID_CONFIG
 */
export async function ensureUbuntuCloud(
  source: UbuntuCloudSource,
  options: UbuntuCloudOptions,
): Promise<BaseImage> {
  const { diskDirectory, logger } = options;
  const work = await prepareUbuntuWork(source, options);
  return withBaseLock(options, async () => {
    await removeUnfinished(diskDirectory, "ubuntu-cloud-");
    await removeStaleDownloads(diskDirectory);
    const cached = await readCached(work.key, logger);
    if (cached !== undefined && Date.now() - cached.checkedAt.getTime() < (options.maxAgeMs ?? 0)) {
      return cached.image;
    }
    try {
      return await refresh(work, cached);
    } catch (thrown) {
      const error = explainDiskFull(thrown, "the image", diskDirectory);
      const survivable = error instanceof FleetingdError && SURVIVABLE.has(error.code);
      if (cached === undefined || !survivable) throw error;
      warnOfAge(logger, cached, error);
      return cached.image;
    }
  });
}

async function refresh(work: UbuntuWork, cached: CachedImage | undefined): Promise<BaseImage> {
  const failures: FleetingdError[] = [];
  for (const mirror of work.source.mirrors ?? [UBUNTU_MIRROR]) {
    try {
      return await refreshFrom(mirror, work, cached);
    } catch (error) {
      if (!(error instanceof FleetingdError) || FINAL.has(error.code)) throw error;
      work.options.logger.info(`${mirror} could not give the image: ${error.message}`);
      failures.push(error);
    }
  }
  const [only] = failures;
  if (only !== undefined && failures.length === 1) throw only;
  const worst = failures.find(({ code }) => code === "VERIFICATION_FAILED") ?? only;
  const reasons = failures.map(messageOf).join("; ");
  throw new FleetingdError(
    worst?.code ?? "UNAVAILABLE",
    `none of the mirrors could give the image: ${reasons}`,
    {
      hint: worst?.hint,
      cause: worst,
    },
  );
}

async function refreshFrom(
  mirror: string,
  work: UbuntuWork,
  cached: CachedImage | undefined,
): Promise<BaseImage> {
  const { key, options, http, candidates } = work;
  const directory = downloadsDirectory(key.diskDirectory);
  await ensureDirectory(directory);
  options.onProgress?.({ step: "asking for the newest image" });
  const { architecture, keyring } = key;
  const at = { mirror, candidates: candidates.list, architecture, keyring, directory };
  const readIndex = (): Promise<UbuntuIndex> =>
    readUbuntuIndex({ ...http, ...at }).catch((error: unknown) => {
      throw explainDiskFull(error, "the list of images", directory);
    });
  const index = await readIndex();
  if (cached !== undefined && isOlder(index, cached, work)) {
    options.logger.info(`${mirror} has an older image than the one in the cache, which is kept`);
    return cached.image;
  }
  const settled = await obtainSettled(index, readIndex, work);
  await rememberCached(key, { ...settled, checkedAt: new Date() });
  await removeSuperseded(key.diskDirectory);
  return settled.image;
}

/** A newer build may take the place of the files while they are fetched; then that one is wanted. */
async function obtainSettled(
  index: UbuntuIndex,
  readIndex: () => Promise<UbuntuIndex>,
  { key, options, http }: UbuntuWork,
): Promise<Pick<CachedImage, "image" | "series" | "signedAt">> {
  const obtain = async (from: UbuntuIndex): Promise<Pick<CachedImage, "image" | "series" | "signedAt">> => ({
    image: await obtainUbuntuImage(from, { ...options, http, stream: key.stream }),
    series: from.series,
    signedAt: from.signedAt,
  });
  try {
    return await obtain(index);
  } catch (error) {
    if (!(error instanceof FleetingdError) || error.code !== "VERIFICATION_FAILED") throw error;
    const newer = await readIndex();
    if (sameFiles(newer, index)) throw error;
    return await obtain(newer);
  }
}

function sameFiles(a: UbuntuIndex, b: UbuntuIndex): boolean {
  return (["disk", "kernel", "initrd"] as const).every((part) => a[part].sha256 === b[part].sha256);
}

/** Mirrors lag behind each other, and somebody may replay what was signed long ago. */
function isOlder(index: UbuntuIndex, cached: CachedImage, { candidates }: UbuntuWork): boolean {
  const rank = (series: string): number => {
    const at = candidates.list.findIndex((candidate) => candidate.series === series);
    return at < 0 ? candidates.list.length : at;
  };
  const behind = rank(index.series) - rank(cached.series);
  return behind > 0 || (behind === 0 && index.signedAt < cached.signedAt);
}

function warnOfAge(logger: Logger, { image, checkedAt }: CachedImage, error: FleetingdError): void {
  const hours = Math.floor((Date.now() - checkedAt.getTime()) / 3_600_000);
  const age = hours < 48 ? `${hours} hours` : `${Math.floor(hours / 24)} days`;
  logger.warn(
    `no newer base image could be had, so the one in the cache is used; it was the newest ${age} ago`,
    {
      image: image.name,
      fetchedAt: image.createdAt.toISOString(),
      error: error.message,
    },
  );
}
