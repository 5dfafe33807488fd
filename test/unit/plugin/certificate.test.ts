import assert from "node:assert/strict";
import { createPrivateKey, X509Certificate } from "node:crypto";
import { test } from "node:test";
import { createSelfSignedCertificate } from "../../../src/plugin/certificate.ts";

test("the certificate is what go-plugin accepts: self-signed, for localhost, an authority, for both sides", async () => {
  const { der, certificatePem, privateKeyPem } = await createSelfSignedCertificate();
  const certificate = new X509Certificate(certificatePem);
  assert.deepEqual(certificate.raw, der);
  assert.ok(certificate.verify(certificate.publicKey), "signed by its own key");
  assert.ok(certificate.checkIssued(certificate));
  assert.ok(certificate.checkPrivateKey(createPrivateKey(privateKeyPem)));
  assert.equal(certificate.checkHost("localhost"), "localhost");
  assert.equal(certificate.subjectAltName, "DNS:localhost");
  assert.equal(certificate.ca, true);
  assert.deepEqual(certificate.keyUsage, ["1.3.6.1.5.5.7.3.1", "1.3.6.1.5.5.7.3.2"]);
  assert.ok(Date.parse(certificate.validFrom) < Date.now());
});

test("no two are alike", async () => {
  const [one, other] = await Promise.all([createSelfSignedCertificate(), createSelfSignedCertificate()]);
  assert.notEqual(new X509Certificate(one.der).serialNumber, new X509Certificate(other.der).serialNumber);
});
