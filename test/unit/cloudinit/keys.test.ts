import assert from "node:assert/strict";
import { test } from "node:test";
import ssh2 from "ssh2";
import { generateSshKeyPair } from "../../../src/cloudinit/keys.ts";

/** A key of this type is that long in an `ssh-ed25519` blob: two lengths, the type's name, 32 bytes. */
const BLOB_BYTES = 4 + "ssh-ed25519".length + 4 + 32;

test("every key pair is whole, also one whose public key begins with a zero", () => {
  for (let count = 0; count < 1_500; count++) {
    const { privateKey, publicKey } = generateSshKeyPair("a comment");
    assert.ok(!(ssh2.utils.parseKey(privateKey) instanceof Error), privateKey);
    assert.equal(Buffer.from(publicKey.split(" ")[1] ?? "", "base64").length, BLOB_BYTES, publicKey);
  }
});
