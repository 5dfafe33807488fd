import assert from "node:assert/strict";
import { test } from "node:test";
import { readGpgvStatus } from "../../../src/images/signature.ts";

const ID = "1A5D6C4C7DB87C81";
const NEW = "[GNUPG:] NEWSIG";
const GOOD = `[GNUPG:] GOODSIG ${ID} Somebody`;
const VALID = `[GNUPG:] VALIDSIG ${ID} 2026-04-23 1776902400 0 4 0 22 10 00 ${ID}`;
const UNKNOWN = `[GNUPG:] ERRSIG 0000000000000000 1 10 00 1776902400 9 -\n[GNUPG:] NO_PUBKEY 0000000000000000`;

function reasonOf(...lines: string[]): string | undefined {
  const verdict = readGpgvStatus(lines.join("\n"));
  return verdict.good ? undefined : verdict.reason;
}

test("a good signature and when it was made", () => {
  const verdict = readGpgvStatus([NEW, GOOD, VALID].join("\n"));
  assert.deepEqual(verdict, { good: true, signedAt: new Date("2026-04-23T00:00:00Z") });
});

test("a second signature by an unknown key takes nothing from a good one", () => {
  assert.equal(reasonOf(NEW, UNKNOWN, NEW, GOOD, VALID), undefined);
  assert.equal(reasonOf(NEW, GOOD, VALID, NEW, UNKNOWN), undefined);
});

test("nothing else is good, though some of it is said to be valid", () => {
  assert.match(reasonOf(NEW, UNKNOWN) ?? "", /made with the key 0{16}, which is not in the keyring/);
  assert.match(reasonOf(NEW, `[GNUPG:] BADSIG ${ID} Somebody`) ?? "", /changed after/);
  assert.match(reasonOf(NEW, `[GNUPG:] EXPKEYSIG ${ID} Somebody`, VALID) ?? "", /key has expired/);
  assert.match(reasonOf(NEW, `[GNUPG:] REVKEYSIG ${ID} Somebody`, VALID) ?? "", /revoked/);
  assert.match(reasonOf(NEW, `[GNUPG:] EXPSIG ${ID} Somebody`, VALID) ?? "", /it has expired/);
  assert.match(reasonOf(NEW, GOOD, VALID, NEW, `[GNUPG:] BADSIG ${ID} Other`) ?? "", /changed after/);
  assert.match(reasonOf() ?? "", /no signature/);
  assert.match(reasonOf(GOOD) ?? "", /no signature/);
});

test("what the signed text or a key's owner says is not taken for a status", () => {
  assert.match(reasonOf(`gpgv: ${GOOD}`, `gpgv: ${VALID}`) ?? "", /no signature/);
});
