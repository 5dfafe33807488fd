/** SSH key pairs: ed25519 only, in the OpenSSH format that Node's and Go's libraries both read. */
import ssh2 from "ssh2";

export interface SshKeyPair {
  /** PEM. */
  privateKey: string;
  /** `ssh-ed25519 AAAA… comment` */
  publicKey: string;
}

export function generateSshKeyPair(comment: string): SshKeyPair {
  const pair = ssh2.utils.generateKeyPairSync("ed25519", { comment });
  return { privateKey: pair.private, publicKey: pair.public };
}
