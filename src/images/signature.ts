/** Detached OpenPGP signatures, checked by gpgv. */
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { FleetingdError, systemErrorCode } from "../errors.ts";
import { exists } from "../host/files.ts";
import { run } from "../host/run.ts";

/** Where distributions put the keys that Ubuntu signs its cloud images with. */
export const UBUNTU_KEYRINGS: readonly string[] = [
  "/usr/share/keyrings/ubuntu-cloudimage-keyring.gpg",
  "/etc/apt/trusted.gpg.d/ubuntu-keyring-2012-cloudimage.gpg",
];

/**
 * The keyring to check with.
 * @param configured the operator's, or undefined for the distribution's
 * @throws FleetingdError NOT_FOUND that names the package to install; INVALID_CONFIG if gpgv could not read it
 */
export async function findKeyring(configured: string | undefined): Promise<string> {
  if (configured !== undefined) {
    await requireBinaryKeyring(configured);
    return configured;
  }
  for (const path of UBUNTU_KEYRINGS) if (await exists(path)) return path;
  throw new FleetingdError(
    "NOT_FOUND",
    `the keys that Ubuntu signs its cloud images with are not on this host (${UBUNTU_KEYRINGS[0]})`,
    {
      hint: "Install the package ubuntu-keyring (on Debian 12 it is in bookworm-backports), or set keyring to a file with them.",
    },
  );
}

async function requireBinaryKeyring(path: string): Promise<void> {
  let content: Buffer;
  try {
    content = await readFile(path);
  } catch (error) {
    const reason = systemErrorCode(error) === "ENOENT" ? "does not exist" : "cannot be read";
    throw new FleetingdError("NOT_FOUND", `the keyring ${path} ${reason}`, {
      hint: "Set keyring to a file with public keys, or leave it out to use the distribution's.",
      cause: error,
    });
  }
  if (!content.subarray(0, 64).toString("latin1").includes("-----BEGIN PGP")) return;
  throw new FleetingdError("INVALID_CONFIG", `the keyring ${path} is ASCII-armored, which gpgv cannot read`, {
    hint: `Convert it: gpg --dearmor --output ${path.replace(/\.(asc|gpg)$/, "")}-binary.gpg ${path}`,
  });
}

/**
 * Checks that a key of `keyring` signed `content`; returns when it did so.
 * @param directory for two short-lived files
 * @param what names the signed file in errors
 * @throws FleetingdError VERIFICATION_FAILED, MISSING_PROGRAM, CANCELLED
 */
export async function verifyDetachedSignature(options: {
  content: Uint8Array;
  signature: Uint8Array;
  keyring: string;
  directory: string;
  what: string;
  signal?: AbortSignal | undefined;
}): Promise<Date> {
  const content = join(options.directory, "content");
  const signature = join(options.directory, "signature");
  await writeFile(content, options.content, { mode: 0o600 });
  await writeFile(signature, options.signature, { mode: 0o600 });
  const args = ["--status-fd", "1", "--keyring", options.keyring, signature, content];
  // A second signature by a key that we do not know makes gpgv fail although the first one is good: its words decide.
  const { stdout, stderr } = await run("gpgv", args, {
    acceptedExitCodes: [0, 1, 2],
    signal: options.signal,
  });
  const verdict = readGpgvStatus(stdout);
  if (verdict.good) return verdict.signedAt;
  throw new FleetingdError(
    "VERIFICATION_FAILED",
    `the signature of ${options.what} is not valid: ${verdict.reason}`,
    {
      hint: `It must be signed by a key in ${options.keyring}.`,
      cause: stderr,
    },
  );
}

export type SignatureVerdict = { good: true; signedAt: Date } | { good: false; reason: string };

/** What gpgv's status lines say: good is at least one valid signature by a key that is still valid, and no bad one. */
export function readGpgvStatus(status: string): SignatureVerdict {
  const lines = status
    .split("\n")
    .filter((line) => line.startsWith("[GNUPG:] "))
    .map((line) => line.split(" ").slice(1));
  const first = (keyword: string): string[] | undefined => lines.find(([word]) => word === keyword);
  if (first("BADSIG") !== undefined)
    return { good: false, reason: "the content was changed after it was signed" };
  const goodAt = lines.findIndex(([word]) => word === "GOODSIG");
  // VALIDSIG follows GOODSIG, but also the likes of EXPKEYSIG: only the one of the good signature counts.
  const valid = goodAt < 0 ? undefined : lines.slice(goodAt).find(([word]) => word === "VALIDSIG");
  const seconds = Number(valid?.[3]);
  if (valid !== undefined && Number.isFinite(seconds))
    return { good: true, signedAt: new Date(seconds * 1000) };
  const missing = first("NO_PUBKEY");
  if (first("REVKEYSIG")) return { good: false, reason: "its key was revoked" };
  if (first("EXPKEYSIG")) return { good: false, reason: "its key has expired" };
  if (first("EXPSIG")) return { good: false, reason: "it has expired" };
  if (missing)
    return { good: false, reason: `it was made with the key ${missing[1]}, which is not in the keyring` };
  return { good: false, reason: "it is no signature that gpgv can read" };
}
