/** What an image server has of a series: file names and checksums, signed. */
import { mkdtemp } from "node:fs/promises";
import { join } from "node:path";
import { FleetingdError } from "../errors.ts";
import { removeTree } from "../host/files.ts";
import { fetchBytes, HttpError, type HttpOptions, type RetryOptions } from "../host/http.ts";
import { sleep } from "../host/wait.ts";
import { verifyDetachedSignature } from "./signature.ts";
import { parseSha256Sums } from "./sums.ts";
import type { Candidate } from "./ubuntu-series.ts";

/** The verified files of one build. */
export interface UbuntuIndex {
  series: string;
  /** When the list of the disk was signed. */
  signedAt: Date;
  disk: RemoteFile;
  kernel: RemoteFile;
  initrd: RemoteFile;
}

export interface RemoteFile {
  url: string;
  sha256: string;
}

export interface IndexOptions extends HttpOptions, RetryOptions {
  mirror: string;
  candidates: readonly Candidate[];
  architecture: string;
  keyring: string;
  /** For short-lived files. */
  directory: string;
}

const SUMS = "SHA256SUMS";
const SIGNATURE = "SHA256SUMS.gpg";
const MAX_LIST_BYTES = 4 * 1024 * 1024;
const MAX_TRIES = 3;
const DEFAULT_PAUSE_MS = 2_000;

/**
 * The first of the candidates that the mirror has.
 * @throws FleetingdError NOT_FOUND (it has none of them), VERIFICATION_FAILED, UNAVAILABLE, CANCELLED
 */
export async function readUbuntuIndex(options: IndexOptions): Promise<UbuntuIndex> {
  let missing: unknown;
  for (const candidate of options.candidates) {
    try {
      return await readSettledIndex(options, candidate);
    } catch (error) {
      if (!(error instanceof HttpError) || error.code !== "NOT_FOUND") throw error;
      missing ??= error;
    }
  }
  throw missing ?? new FleetingdError("NOT_FOUND", `there is no release to look for at ${options.mirror}`);
}

/** A new build may be put in place between two of our requests: what does not fit together is asked for again. */
async function readSettledIndex(options: IndexOptions, candidate: Candidate): Promise<UbuntuIndex> {
  const pauseMs = options.retryDelayMs ?? DEFAULT_PAUSE_MS;
  for (let tries = 1; ; tries++) {
    try {
      return await readIndex(options, candidate);
    } catch (error) {
      const unsettled = error instanceof FleetingdError && error.code === "VERIFICATION_FAILED";
      if (!unsettled || tries >= MAX_TRIES) throw error;
      await sleep(pauseMs, options.signal);
    }
  }
}

async function readIndex(options: IndexOptions, candidate: Candidate): Promise<UbuntuIndex> {
  const base = `${options.mirror.replace(/\/+$/, "")}/${candidate.folder}`;
  const disks = await readSignedSums(options, base);
  const [diskName] = namesOf(disks.sums, candidate.prefix, `-server-cloudimg-${options.architecture}.img`);
  if (diskName === undefined) throw notListed(`${base}/${SUMS}`, candidate.series, options.architecture);
  const unpacked = await readSignedSums(options, `${base}/unpacked`);
  const stem = diskName.replace(/\.img$/, "");
  const unpackedFile = (name: string): RemoteFile => {
    const sha256 = unpacked.sums.get(name) ?? unpacked.sums.get(`unpacked/${name}`);
    if (sha256 === undefined)
      throw notListed(`${base}/unpacked/${SUMS}`, candidate.series, options.architecture);
    return { url: `${base}/unpacked/${name}`, sha256 };
  };
  const index = {
    series: candidate.series,
    signedAt: disks.signedAt,
    disk: { url: `${base}/${diskName}`, sha256: disks.sums.get(diskName) ?? "" },
    kernel: unpackedFile(`${stem}-vmlinuz-generic`),
    initrd: unpackedFile(`${stem}-initrd-generic`),
  };
  // A kernel of one build with the modules of another would pass every checksum and not boot.
  const again = await fetchBytes(`${base}/${SUMS}`, { ...options, maxBytes: MAX_LIST_BYTES });
  if (again.equals(disks.content)) return index;
  throw new FleetingdError(
    "VERIFICATION_FAILED",
    `${base} is being updated: its files do not belong together yet`,
    {
      hint: "Try again in a few minutes.",
    },
  );
}

interface SignedSums {
  content: Buffer;
  sums: ReadonlyMap<string, string>;
  signedAt: Date;
}

async function readSignedSums(options: IndexOptions, folder: string): Promise<SignedSums> {
  const limits = { ...options, maxBytes: MAX_LIST_BYTES };
  const content = await fetchBytes(`${folder}/${SUMS}`, limits);
  const signature = await fetchBytes(`${folder}/${SIGNATURE}`, limits).catch((error: unknown) => {
    if (!(error instanceof HttpError) || error.code !== "NOT_FOUND") throw error;
    throw new FleetingdError(
      "VERIFICATION_FAILED",
      `${folder}/${SUMS} is not signed: there is no ${SIGNATURE}`,
      {
        hint: "Use a mirror that carries the signatures too.",
        cause: error,
      },
    );
  });
  const directory = await mkdtemp(join(options.directory, "verify-"));
  try {
    const { keyring, signal } = options;
    const what = `${folder}/${SUMS}`;
    const signedAt = await verifyDetachedSignature({ content, signature, keyring, directory, what, signal });
    return { content, sums: parseSha256Sums(content.toString("utf8")), signedAt };
  } finally {
    await removeTree(directory);
  }
}

function namesOf(sums: ReadonlyMap<string, string>, prefix: RegExp, suffix: string): string[] {
  return [...sums.keys()].filter(
    (name) => name.endsWith(suffix) && prefix.test(name.slice(0, -suffix.length)),
  );
}

function notListed(list: string, series: string, architecture: string): FleetingdError {
  return new FleetingdError(
    "VERIFICATION_FAILED",
    `${list} is signed but does not list an image of ${series} for ${architecture} with kernel and initrd`,
    { hint: "Check the series and that the mirror has the tree of cloud-images.ubuntu.com." },
  );
}
