import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { redact } from "../../../src/host/redact.ts";

const SECRET = "s3cr3t-Value/9+=";

describe("what a server said, before it is shown", () => {
  const hidden: Record<string, string> = {
    "a JSON field": `{"password": "${SECRET}", "user": "ci"}`,
    "a JSON field with an escaped quote": `{"adminPass":"${SECRET}\\"more"}`,
    "a field of a form": `grant_type=refresh_token&refresh_token=${SECRET}&x=1`,
    "a header": `X-Auth-Token: ${SECRET}`,
    "an authorization": `Authorization: Bearer ${SECRET}, realm`,
    "a Python dictionary": `{'application_credential_secret': '${SECRET}'}`,
    "a password in a URL": `git clone https://oauth2:${SECRET.replaceAll("/", "")}@gitlab.example.org/a.git`,
    "a private key": `-----BEGIN OPENSSH PRIVATE KEY-----\n${SECRET}\n-----END OPENSSH PRIVATE KEY-----`,
    "a private key that was cut off": `-----BEGIN PRIVATE KEY-----\n${SECRET}`,
  };
  for (const [what, text] of Object.entries(hidden)) {
    test(`${what} is hidden`, () => {
      const safe = redact(text);
      assert.ok(!safe.includes(SECRET), safe);
      assert.match(safe, /\[redacted\]/);
    });
  }

  test("a token of GitLab's is hidden wherever it stands, and no structure that is called passwd", () => {
    assert.equal(redact("docker login -p glpat-0123456789abcdefghij x"), "docker login -p [redacted] x");
    const users = '{"passwd": {"users": [{"name": "core"}]}}';
    assert.equal(redact(users), users);
  });

  test("what is known to be secret is hidden wherever it stands", () => {
    assert.equal(redact(`no user ${SECRET}, nor ${SECRET}`, [SECRET]), "no user [redacted], nor [redacted]");
  });

  test("the rest stays readable, and too much of it is cut", () => {
    const text =
      'Quota exceeded for cores: Requested 4, but already used 20 of 20 cores ("password" is no field)';
    assert.equal(redact(text), text);
    assert.equal(redact("x".repeat(5_000)).length, 1_001);
  });

  test("empty and short secrets hide nothing", () => {
    assert.equal(redact("all is well", ["", "a"]), "all is well");
  });
});
