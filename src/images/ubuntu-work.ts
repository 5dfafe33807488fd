/** What must be there before a mirror is asked for Ubuntu's images: programs, keys, certificates, names to look for. */
import { FleetingdError } from "../errors.ts";
import { findProgram, readTextIfExists } from "../host/files.ts";
import type { HttpOptions, RetryOptions } from "../host/http.ts";
import type { Logger } from "../log.ts";
import type { OnProgress } from "./image.ts";
import type { UbuntuCloudSource } from "./image-config.ts";
import { findKeyring } from "./signature.ts";
import type { CacheKey } from "./ubuntu-cache.ts";
import { type Candidates, seriesCandidates } from "./ubuntu-series.ts";

export interface UbuntuCloudOptions extends Pick<HttpOptions, "silenceMs">, Omit<RetryOptions, "onRetry"> {
  /** Images go to `<diskDirectory>/base/<name>/`. */
  diskDirectory: string;
  logger: Logger;
  onProgress?: OnProgress | undefined;
  /** `amd64` or `arm64`; default: this host's. */
  architecture?: string | undefined;
  /** An image that a server confirmed less than this ago is taken without asking again. Default 0. */
  maxAgeMs?: number | undefined;
}

/** All that is needed to ask a mirror. */
export interface UbuntuWork {
  source: UbuntuCloudSource;
  options: UbuntuCloudOptions;
  key: CacheKey;
  http: HttpOptions & RetryOptions;
  candidates: Candidates;
}

const DISTRO_INFO = "/usr/share/distro-info/ubuntu.csv";

/**
 * Looks at this host and the configuration only.
 * @throws FleetingdError MISSING_PROGRAM, NOT_FOUND (keyring), INVALID_ARGUMENT (series), INVALID_CONFIG
 */
export async function prepareUbuntuWork(
  source: UbuntuCloudSource,
  options: UbuntuCloudOptions,
): Promise<UbuntuWork> {
  await requirePrograms();
  const { diskDirectory, logger, signal } = options;
  const { series, stream } = source;
  const architecture = options.architecture ?? (process.arch === "x64" ? "amd64" : process.arch);
  const keyring = await findKeyring(source.keyring);
  const candidates = seriesCandidates(
    series,
    stream,
    new Date(),
    (await readTextIfExists(DISTRO_INFO)) ?? "",
  );
  if (candidates.unknownVersion !== undefined) {
    logger.warn(
      `the code name of Ubuntu ${candidates.unknownVersion} LTS is not known here, so an older release is taken; set series to it, or update the package distro-info-data`,
    );
  }
  const http = {
    silenceMs: options.silenceMs,
    maxFailures: options.maxFailures,
    retryDelayMs: options.retryDelayMs,
    signal,
    certificateAuthority: await readCertificate(source.caCertificate),
    onRetry: (error: Error, delayMs: number) =>
      logger.info(`${error.message}; trying again in ${delayMs} ms`),
  };
  return { source, options, candidates, http, key: { diskDirectory, series, stream, architecture, keyring } };
}

async function readCertificate(path: string | undefined): Promise<string | undefined> {
  if (path === undefined) return undefined;
  const text = await readTextIfExists(path);
  if (text?.includes("-----BEGIN CERTIFICATE-----")) return text;
  const reason = text === undefined ? "does not exist" : "has no certificate in PEM form";
  throw new FleetingdError("INVALID_CONFIG", `the CA certificate ${path} ${reason}`, {
    hint: "Set ca_certificate to a PEM file, or leave it out to use the authorities that Node trusts.",
  });
}

async function requirePrograms(): Promise<void> {
  for (const [program, packageName] of [
    ["gpgv", "gpgv"],
    ["qemu-img", "qemu-utils"],
  ] as const) {
    if ((await findProgram(program)) !== undefined) continue;
    throw new FleetingdError(
      "MISSING_PROGRAM",
      `an Ubuntu cloud image needs ${program}, which was not found on PATH`,
      { hint: `Install the package ${packageName}.` },
    );
  }
}
