import assert from "node:assert/strict";
import { test } from "node:test";
import { parseConfig } from "../../../src/config.ts";

const SUM = "a".repeat(64);

function imageOf(lines: string) {
  return parseConfig([{ path: "c.toml", text: `[images.x]\n${lines}` }]).images["x"];
}

function errorOf(lines: string): string {
  try {
    imageOf(lines);
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
  return assert.fail("the image was accepted");
}

test("every type with all of its keys", () => {
  assert.deepEqual({ ...imageOf("") }, { type: "auto" });
  assert.deepEqual(
    {
      ...imageOf(
        'type = "ubuntu-cloud"\nseries = "noble"\nstream = "daily"\nmirrors = ["https://m.example.org/u/"]\nkeyring = "/k.gpg"\nca_certificate = "/c.pem"',
      ),
    },
    {
      type: "ubuntu-cloud",
      series: "noble",
      stream: "daily",
      mirrors: ["https://m.example.org/u"],
      keyring: "/k.gpg",
      caCertificate: "/c.pem",
    },
  );
  const entry = "deb [signed-by=/k.gpg] http://m.example.org/debian bookworm main";
  assert.deepEqual(
    {
      ...imageOf(
        `type = "debian-packages"\nsuite = "bookworm"\nmirrors = ["http://m.example.org/debian", "${entry}"]\npackages = ["git"]`,
      ),
    },
    {
      type: "debian-packages",
      suite: "bookworm",
      mirrors: ["http://m.example.org/debian", entry],
      packages: ["git"],
    },
  );
  assert.deepEqual(
    {
      ...imageOf(
        `type = "files"\ndisk = "/d.qcow2"\ndisk_sha256 = "${SUM}"\nkernel = "/k"\nroot_device = "LABEL=root"\nkernel_arguments = ["quiet"]`,
      ),
    },
    {
      type: "files",
      disk: "/d.qcow2",
      diskSha256: SUM,
      kernel: "/k",
      kernelSha256: undefined,
      initrd: undefined,
      initrdSha256: undefined,
      rootDevice: "LABEL=root",
      kernelArguments: ["quiet"],
    },
  );
});

test("`default` may be another image than auto", () => {
  const { images } = parseConfig([{ path: "c.toml", text: '[images.default]\ntype = "ubuntu-cloud"' }]);
  assert.equal(images["default"]?.type, "ubuntu-cloud");
});

test("what is wrong with an image", () => {
  assert.equal(
    errorOf('type = "ubuntu"'),
    'c.toml:2: images.x.type: expected one of "auto", "ubuntu-cloud", "debian-packages", "files", but this is "ubuntu"; did you mean "auto"?',
  );
  assert.equal(
    errorOf('suite = "bookworm"'),
    'c.toml:2: images.x.suite: only images of type "debian-packages" have this key; set type, or leave it out',
  );
  assert.equal(
    errorOf('type = "files"\nkernel = "vmlinuz"'),
    [
      "c.toml:1: images.x.disk: missing; give it a string",
      'c.toml:3: images.x.kernel: expected an absolute path (it begins with /), but this is "vmlinuz"',
    ].join("\n"),
  );
  assert.match(errorOf('type = "ubuntu-cloud"\nmirrors = ["ftp://x"]'), /mirrors\[0\]: expected a URL/);
  assert.match(errorOf('type = "ubuntu-cloud"\nmirrors = []'), /must be at least 1, but this is a list of 0/);
  assert.match(errorOf('type = "debian-packages"\nmirrors = ["deb x"]'), /expected a mirror's URL/);
  assert.match(
    errorOf('type = "files"\ndisk = "/d"\nkernel = "/k"\nkernel_arguments = ["a b"]'),
    /one argument/,
  );
  assert.match(
    errorOf('type = "files"\ndisk = "/d"\nkernel = "/k"\ndisk_sha256 = "abc"'),
    /SHA-256 checksum/,
  );
});
