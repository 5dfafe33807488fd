/** SSH key pairs: ed25519 only, in the OpenSSH format that Node's and Go's libraries both read. */
import ssh2 from "ssh2";
import { FleetingdError } from "../errors.ts";

export interface SshKeyPair {
  /** PEM. */
  privateKey: string;
  /** `ssh-ed25519 AAAA… comment` */
  publicKey: string;
}

export function generateSshKeyPair(comment: string): SshKeyPair {
  for (;;) {
    const pair = ssh2.utils.generateKeyPairSync("ed25519", { comment });
    // The library leaves out a key's first byte if that is zero, and nobody can read such a pair: one in 256.
    if (ssh2.utils.parseKey(pair.private) instanceof Error) continue;
    return { privateKey: pair.private, publicKey: pair.public };
  }
}

/** @throws FleetingdError INVALID_CONFIG if it is no private key, or needs a passphrase */
export function publicKeyOf(privateKey: string): string {
  const key = ssh2.utils.parseKey(privateKey);
  if (key instanceof Error) {
    throw new FleetingdError("INVALID_CONFIG", `the private key can't be used: ${key.message}`);
  }
  return `${key.type} ${key.getPublicSSH().toString("base64")}`;
}
