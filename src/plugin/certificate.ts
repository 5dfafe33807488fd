/**
 * A self-signed certificate for mutual TLS with a go-plugin host: one fixed template, so its DER is written here. It has
 * to be what Go's own go-plugin makes: valid for `localhost`, an authority, for servers and clients.
 */
import { generateKeyPair, randomBytes, sign } from "node:crypto";
import { promisify } from "node:util";

export interface SelfSignedCertificate {
  der: Buffer;
  certificatePem: string;
  privateKeyPem: string;
}

const TAG = {
  integer: 2,
  bitString: 3,
  octetString: 4,
  oid: 6,
  utf8: 12,
  sequence: 0x30,
  set: 0x31,
} as const;
const UTC_TIME = 0x17;
const GENERALIZED_TIME = 0x18;
const BOOLEAN_TRUE = Buffer.from([1, 1, 0xff]);

// Object identifiers, encoded as in X.690 8.19.
const ECDSA_WITH_SHA256 = Buffer.from("2a8648ce3d040302", "hex");
const COMMON_NAME = Buffer.from("550403", "hex");
const BASIC_CONSTRAINTS = Buffer.from("551d13", "hex");
const KEY_USAGE = Buffer.from("551d0f", "hex");
const EXTENDED_KEY_USAGE = Buffer.from("551d25", "hex");
const SUBJECT_ALT_NAME = Buffer.from("551d11", "hex");
const SERVER_AUTH = Buffer.from("2b06010505070301", "hex");
const CLIENT_AUTH = Buffer.from("2b06010505070302", "hex");

// digitalSignature, keyEncipherment, keyAgreement and keyCertSign; the last two bits are not used.
const KEY_USAGE_BITS = Buffer.from([2, 0b1010_1100]);
const HOST_NAME = "localhost";

export async function createSelfSignedCertificate(): Promise<SelfSignedCertificate> {
  const { publicKey, privateKey } = await promisify(generateKeyPair)("ec", { namedCurve: "P-256" });
  const algorithm = sequence(encode(TAG.oid, ECDSA_WITH_SHA256));
  const name = sequence(
    encode(TAG.set, sequence(encode(TAG.oid, COMMON_NAME), encode(TAG.utf8, Buffer.from(HOST_NAME)))),
  );
  const toBeSigned = sequence(
    encode(0xa0, encode(TAG.integer, Buffer.from([2]))), // version 3
    // The leading byte keeps the number positive and free of leading zeros.
    encode(TAG.integer, Buffer.concat([Buffer.from([1]), randomBytes(15)])),
    algorithm,
    name,
    // It lives as long as this process; a wrong clock on either side must not matter.
    sequence(
      encode(UTC_TIME, Buffer.from("200101000000Z")),
      encode(GENERALIZED_TIME, Buffer.from("99991231235959Z")),
    ),
    name,
    publicKey.export({ type: "spki", format: "der" }),
    encode(0xa3, sequence(...extensions())),
  );
  const der = sequence(toBeSigned, algorithm, bitString(sign("sha256", toBeSigned, privateKey)));
  return {
    der,
    certificatePem: toPem(der),
    privateKeyPem: privateKey.export({ type: "pkcs8", format: "pem" }).toString(),
  };
}

function extensions(): Buffer[] {
  const extension = (id: Buffer, critical: boolean, value: Buffer): Buffer =>
    sequence(encode(TAG.oid, id), ...(critical ? [BOOLEAN_TRUE] : []), encode(TAG.octetString, value));
  return [
    extension(BASIC_CONSTRAINTS, true, sequence(BOOLEAN_TRUE)),
    extension(KEY_USAGE, true, encode(TAG.bitString, KEY_USAGE_BITS)),
    extension(
      EXTENDED_KEY_USAGE,
      false,
      sequence(encode(TAG.oid, SERVER_AUTH), encode(TAG.oid, CLIENT_AUTH)),
    ),
    extension(SUBJECT_ALT_NAME, false, sequence(encode(0x82, Buffer.from(HOST_NAME)))),
  ];
}

function sequence(...parts: Buffer[]): Buffer {
  return encode(TAG.sequence, ...parts);
}

function bitString(content: Buffer): Buffer {
  return encode(TAG.bitString, Buffer.from([0]), content);
}

/** Tag, length and content. */
function encode(tag: number, ...parts: Buffer[]): Buffer {
  const content = Buffer.concat(parts);
  const { length } = content;
  if (length < 0x80) return Buffer.concat([Buffer.from([tag, length]), content]);
  if (length < 0x100) return Buffer.concat([Buffer.from([tag, 0x81, length]), content]);
  return Buffer.concat([Buffer.from([tag, 0x82, length >> 8, length & 0xff]), content]);
}

function toPem(der: Buffer): string {
  const lines = der.toString("base64").match(/.{1,64}/g) ?? [];
  return ["-----BEGIN CERTIFICATE-----", ...lines, "-----END CERTIFICATE-----", ""].join("\n");
}
