/** From an operator's words to a base image: the one way in for everybody outside of this folder. */
import { FleetingdError, messageOf } from "../errors.ts";
import { exists, findProgram } from "../host/files.ts";
import { openHttp } from "../host/http.ts";
import type { Logger } from "../log.ts";
import { buildDebianPackages, type DebianPackagesOptions } from "./debian-packages.ts";
import { ensureFilesImage } from "./files-image.ts";
import type { BaseImage, OnProgress } from "./image.ts";
import type { ImageSource, UbuntuCloudSource } from "./image-config.ts";
import { UBUNTU_KEYRINGS } from "./signature.ts";
import { hasCached } from "./ubuntu-cache.ts";
import { ensureUbuntuCloud, UBUNTU_MIRROR } from "./ubuntu-cloud.ts";
import type { UbuntuCloudOptions } from "./ubuntu-work.ts";

export interface EnsureOptions {
  /** Images go to `<diskDirectory>/base/<name>/`. */
  diskDirectory: string;
  signal: AbortSignal;
  onProgress: OnProgress;
  logger: Logger;
}

/** How the kinds of images are made; tests give their own. */
export interface ImageMakers {
  ubuntuCloud(source: UbuntuCloudSource, options: UbuntuCloudOptions): Promise<BaseImage>;
  debianPackages(options: DebianPackagesOptions): Promise<BaseImage>;
  files: typeof ensureFilesImage;
  /** What `auto` knows before it decides. */
  observe(source: UbuntuCloudSource, options: EnsureOptions): Promise<AutoFacts>;
}

export interface AutoFacts {
  /** What this host lacks to check and unpack Ubuntu's images, or undefined. */
  missing: string | undefined;
  /** Whether an Ubuntu image is in the cache. */
  cached: boolean;
  /** Why the server cannot be used now, or undefined. */
  serverProblem: string | undefined;
}

export interface AutoDecision {
  type: "ubuntu-cloud" | "debian-packages";
  /** Completes "taking … because …". */
  reason: string;
}

/** What `auto` fetches where it can. */
const AUTO_UBUNTU: UbuntuCloudSource = {
  type: "ubuntu-cloud",
  series: "lts",
  stream: "release",
  mirrors: undefined,
  keyring: undefined,
  caCertificate: undefined,
};
const PROBE_MS = 4_000;

const MAKERS: ImageMakers = {
  ubuntuCloud: ensureUbuntuCloud,
  debianPackages: buildDebianPackages,
  files: ensureFilesImage,
  observe,
};

/**
 * The base image that `source` means, as new as its servers have it. Callers hold the images lock.
 * @throws FleetingdError that says what was wrong and what to do: UNAVAILABLE, NOT_FOUND, VERIFICATION_FAILED, EXHAUSTED,
 *   MISSING_PROGRAM, PERMISSION, INVALID_ARGUMENT, INVALID_CONFIG, TIMEOUT, CANCELLED
 */
export async function ensureBaseImage(
  source: ImageSource,
  options: EnsureOptions,
  makers: ImageMakers = MAKERS,
): Promise<BaseImage> {
  switch (source.type) {
    case "ubuntu-cloud":
      return makers.ubuntuCloud(source, options);
    case "debian-packages":
      return makers.debianPackages({ ...common(options), ...source });
    case "files":
      return makers.files(source, options);
    case "auto":
      return ensureAuto(options, makers);
  }
}

/** `auto`, once it is known what there is: an image in the cache is better than another distribution. */
export function decideAuto({ missing, cached, serverProblem }: AutoFacts): AutoDecision {
  if (missing !== undefined) return { type: "debian-packages", reason: missing };
  if (serverProblem === undefined) return { type: "ubuntu-cloud", reason: "its server answers" };
  if (cached) return { type: "ubuntu-cloud", reason: `it is in the cache, though ${serverProblem}` };
  return { type: "debian-packages", reason: serverProblem };
}

async function ensureAuto(options: EnsureOptions, makers: ImageMakers): Promise<BaseImage> {
  options.onProgress({ step: "looking for an image server" });
  const decision = decideAuto(await makers.observe(AUTO_UBUNTU, options));
  options.logger.info(`image: taking ${decision.type} because ${decision.reason}`);
  if (decision.type === "debian-packages") return makers.debianPackages(common(options));
  try {
    return await makers.ubuntuCloud(AUTO_UBUNTU, options);
  } catch (error) {
    // It answered, and broke later. What failed its verification is no reason to take something else in silence.
    if (!(error instanceof FleetingdError) || (error.code !== "UNAVAILABLE" && error.code !== "TIMEOUT"))
      throw error;
    options.logger.warn("image: the Ubuntu image could not be fetched, so one is built from packages", {
      error: error.message,
    });
    return makers.debianPackages(common(options));
  }
}

function common({ diskDirectory, signal, onProgress }: EnsureOptions): DebianPackagesOptions {
  return { diskDirectory, signal, onProgress };
}

async function observe(source: UbuntuCloudSource, options: EnsureOptions): Promise<AutoFacts> {
  const missing = await missingForUbuntu();
  if (missing !== undefined) return { missing, cached: false, serverProblem: undefined };
  const mirrors = source.mirrors ?? [UBUNTU_MIRROR];
  const problems = await Promise.all(mirrors.map((mirror) => probeServer(mirror, options.signal)));
  const serverProblem = problems.includes(undefined) ? undefined : problems[0];
  return { missing, serverProblem, cached: await hasCached(options.diskDirectory, source) };
}

async function missingForUbuntu(): Promise<string | undefined> {
  for (const program of ["gpgv", "qemu-img"]) {
    if ((await findProgram(program)) === undefined)
      return `ubuntu-cloud needs ${program}, which this host lacks`;
  }
  for (const path of UBUNTU_KEYRINGS) if (await exists(path)) return undefined;
  return "this host lacks the keys of Ubuntu's images (package ubuntu-keyring)";
}

/** Why `mirror` cannot be used now, or undefined if it answers; bounded by `timeoutMs`. */
export async function probeServer(
  mirror: string,
  signal: AbortSignal,
  timeoutMs = PROBE_MS,
): Promise<string | undefined> {
  const bounded = AbortSignal.any([signal, AbortSignal.timeout(timeoutMs)]);
  try {
    const { request } = await openHttp(`${mirror}/releases/`, { signal: bounded, silenceMs: timeoutMs });
    request.destroy();
    return undefined;
  } catch (error) {
    if (signal.aborted)
      throw new FleetingdError("CANCELLED", `cancelled while asking ${mirror}`, { cause: error });
    return bounded.aborted ? `${mirror} did not answer within ${timeoutMs / 1000} s` : messageOf(error);
  }
}
