/** Ubuntu's cloud images from a real HTTPS server: what is good is published, what is not never is. */
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { appendFile, mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, afterEach, before, beforeEach, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { exists, listDirectory } from "../../../src/host/files.ts";
import { run } from "../../../src/host/run.ts";
import { sha256OfFile } from "../../../src/host/sha256.ts";
import { waitFor } from "../../../src/host/wait.ts";
import type { BaseImage } from "../../../src/images/image.ts";
import type { UbuntuCloudSource } from "../../../src/images/image-config.ts";
import { ensureUbuntuCloud } from "../../../src/images/ubuntu-cloud.ts";
import type { UbuntuCloudOptions } from "../../../src/images/ubuntu-work.ts";
import { createLogger, type Logger } from "../../../src/log.ts";
import {
  type DiskFiles,
  ImageServer,
  makeCertificates,
  makeDisk,
  publishBuild,
  type ServedRequest,
  SigningKey,
} from "../../helpers/image-server.ts";
import { needsNamespace, needsPrograms } from "../../helpers/namespace.ts";
import { failOnLeaks } from "../../helpers/suite.ts";

const MIB = 1024 ** 2;
const CONTENT_MIB = 6;
const NEWEST = "releases/26.04/release";
const DISK = "ubuntu-26.04-server-cloudimg-amd64.img";
const FETCH = fileURLToPath(new URL("../../helpers/fetch-image.ts", import.meta.url));

failOnLeaks();

const PROGRAMS = ["gpg", "gpg-agent", "gpgconf", "gpgv", "openssl", "qemu-img", "mke2fs"];
const skip = needsNamespace() || (await needsPrograms(...PROGRAMS));

describe("ubuntu-cloud", { skip }, () => {
  let world: string;
  let root: string;
  let certificates: { ca: string; key: string; cert: string };
  let key: SigningKey;
  let otherKey: SigningKey;
  let disk: DiskFiles;
  let server: ImageServer;
  let diskDirectory: string;
  let log: string[];
  let logger: Logger;

  before(async () => {
    world = await mkdtemp(join(tmpdir(), "ubuntu-"));
    root = join(world, "tree");
    certificates = await makeCertificates(world);
    key = await SigningKey.make(join(world, "key"));
    otherKey = await SigningKey.make(join(world, "other"));
    disk = await makeDisk(world, CONTENT_MIB);
  });

  after(async () => {
    await key.close();
    await otherKey.close();
    await rm(world, { recursive: true });
  });

  beforeEach(async () => {
    await publish("releases/24.04/release", "ubuntu-24.04");
    await publish(NEWEST, "ubuntu-26.04");
    await publish("noble/current", "noble");
    server = await ImageServer.start(root, certificates);
    diskDirectory = await mkdtemp(join(world, "disks-"));
    log = [];
    logger = createLogger({ format: "text", level: "info", write: (line) => log.push(line.trimEnd()) });
  });

  afterEach(async () => {
    await server.stop();
    await assertOnlyVerified(diskDirectory);
    await rm(root, { recursive: true });
    await rm(diskDirectory, { recursive: true });
  });

  async function publish(
    folder: string,
    stem: string,
    kernel = `kernel of ${stem}`,
    qcow2 = disk.qcow2,
  ): Promise<void> {
    await publishBuild(root, { folder, stem, qcow2, kernel, initrd: `initrd of ${stem}`, key });
  }

  function source(changes: Partial<UbuntuCloudSource> = {}): UbuntuCloudSource {
    return {
      type: "ubuntu-cloud",
      series: "lts",
      stream: "release",
      mirrors: [server.url],
      keyring: key.keyring,
      caCertificate: certificates.ca,
      ...changes,
    };
  }

  function ensure(
    changes: Partial<UbuntuCloudSource> = {},
    options: Partial<UbuntuCloudOptions> = {},
  ): Promise<BaseImage> {
    const fixed = { diskDirectory, logger, architecture: "amd64", retryDelayMs: 20, silenceMs: 60_000 };
    return ensureUbuntuCloud(source(changes), { ...fixed, ...options });
  }

  /** Whatever happened: in `base` there are only whole images, and nobody's temporary files. */
  async function assertOnlyVerified(directory: string): Promise<void> {
    for (const name of await listDirectory(join(directory, "base"))) {
      if (name.startsWith(".current-ubuntu-cloud-")) continue;
      assert.match(name, /^ubuntu-cloud-[a-z]+-(release|daily)-[0-9a-f]{12}$/);
      const files = (await readdir(join(directory, "base", name))).sort();
      assert.deepEqual(files, ["disk.raw", "image.json", "initrd", "kernel"]);
      const published = join(directory, "base", name, "disk.raw");
      await run("qemu-img", ["compare", "-q", "-f", "raw", "-F", "raw", disk.raw, published]);
    }
    for (const name of await listDirectory(join(directory, "downloads")))
      assert.match(name, /^[0-9a-f]{64}\.part$/);
  }

  const images = async (directory = diskDirectory): Promise<string[]> =>
    (await listDirectory(join(directory, "base"))).filter((name) => !name.startsWith("."));
  const downloads = (directory = diskDirectory): Promise<string[]> =>
    listDirectory(join(directory, "downloads"));
  const logged = (level: string): string[] => log.filter((line) => line.split(/ +/)[1] === level);

  test("the newest LTS release: verified, unpacked to a sparse raw disk, published", async () => {
    const progress: string[] = [];
    let doneBytes = 0;
    const onProgress: UbuntuCloudOptions["onProgress"] = (at) => {
      if (progress.at(-1) !== at.step) progress.push(at.step);
      doneBytes = Math.max(doneBytes, at.doneBytes ?? 0);
    };
    const image = await ensure({}, { onProgress });
    assert.match(image.name, /^ubuntu-cloud-resolute-release-[0-9a-f]{12}$/);
    assert.equal(await readFile(image.kernelPath, "utf8"), "kernel of ubuntu-26.04");
    assert.equal(await readFile(image.initrdPath ?? "", "utf8"), "initrd of ubuntu-26.04");
    assert.equal(image.rootDevice, "/dev/vda1");
    assert.equal(image.diskFormat, "raw");
    const { size, blocks } = await stat(image.diskPath);
    assert.equal(size, (await stat(disk.raw)).size);
    assert.ok(blocks * 512 < size, "the disk is sparse");
    assert.equal(doneBytes, (await stat(disk.qcow2)).size);
    assert.deepEqual(progress.slice(-2), ["downloading the disk image", "unpacking the disk image"]);
    assert.deepEqual(await downloads(), []);
  });

  test("an unchanged list means no download", async () => {
    const first = await ensure();
    server.reset();
    const second = await ensure();
    assert.deepEqual(second, first);
    assert.deepEqual(
      server.requests.filter(({ path }) => !/SHA256SUMS(\.gpg)?$/.test(path)),
      [],
    );
    server.reset();
    assert.deepEqual(await ensure({}, { maxAgeMs: 60_000 }), first);
    assert.deepEqual(server.requests, []);
  });

  test("downloads that were left when the image was published already", async () => {
    const first = await ensure();
    const base = join(diskDirectory, "base");
    for (const name of await listDirectory(base)) if (name.startsWith(".")) await rm(join(base, name));
    await writeFile(join(diskDirectory, "downloads", `${await sha256OfFile(disk.qcow2)}.part`), "whole");
    server.reset();
    assert.deepEqual(await ensure(), first);
    assert.equal(server.requestsFor(DISK).length, 0);
    assert.deepEqual(await downloads(), []);
  });

  test("a named series, daily, in either of its folders", async () => {
    const image = await ensure({ series: "noble", stream: "daily" });
    assert.match(image.name, /^ubuntu-cloud-noble-daily-/);
    assert.equal(await readFile(image.kernelPath, "utf8"), "kernel of noble");
    await rm(join(root, "noble"), { recursive: true });
    await publish("daily/server/noble/current", "noble", "a newer kernel");
    const newer = await ensure({ series: "noble", stream: "daily" });
    assert.equal(await readFile(newer.kernelPath, "utf8"), "a newer kernel");
  });

  test("a mirror below a path", async () => {
    await publish("pub/cloud-images/releases/24.04/release", "ubuntu-24.04", "a kernel of the mirror");
    const image = await ensure({ mirrors: [`${server.url}/pub/cloud-images/`] });
    assert.equal(await readFile(image.kernelPath, "utf8"), "a kernel of the mirror");
  });

  test("lts takes the older release as long as there is no newer one", async () => {
    await rm(join(root, "releases/26.04"), { recursive: true });
    assert.match((await ensure()).name, /^ubuntu-cloud-noble-release-/);
    await publish(NEWEST, "ubuntu-26.04");
    assert.match((await ensure()).name, /^ubuntu-cloud-resolute-release-/);
    assert.equal((await images()).length, 1);
    // And never goes back by itself.
    await rm(join(root, "releases/26.04"), { recursive: true });
    assert.match((await ensure()).name, /^ubuntu-cloud-resolute-release-/);
    assert.match(logged("info").join(), /older image than the one in the cache/);
  });

  test("a new build replaces the old one", async () => {
    const first = await ensure();
    await publish(NEWEST, "ubuntu-26.04", "a newer kernel");
    const second = await ensure();
    assert.notEqual(second.name, first.name);
    assert.equal(await readFile(second.kernelPath, "utf8"), "a newer kernel");
    assert.deepEqual(await images(), [second.name]);
  });

  test("a series that the server does not have", async () => {
    await assert.rejects(ensure({ series: "warty" }), {
      code: "NOT_FOUND",
      message: /releases\/warty\/release\/SHA256SUMS: the server answered 404/,
    });
    await assert.rejects(ensure({ series: "../noble" }), { code: "INVALID_ARGUMENT" });
  });

  test("a disk that does not have its sum is not published", async () => {
    const file = join(root, NEWEST, DISK);
    const content = await readFile(file);
    content[content.length - 1] = (content.at(-1) ?? 0) ^ 1;
    await writeFile(file, content);
    await assert.rejects(ensure(), { code: "VERIFICATION_FAILED", message: /does not have the checksum/ });
    assert.deepEqual(await images(), []);
    assert.deepEqual(await downloads().then((names) => names.length), 2, "kernel and initrd were good");
    assert.equal(server.requestsFor(DISK).length, 1);
  });

  test("a kernel that does not have its sum is not published", async () => {
    await appendFile(join(root, NEWEST, "unpacked", DISK.replace(".img", "-vmlinuz-generic")), "!");
    await assert.rejects(ensure(), { code: "VERIFICATION_FAILED" });
    assert.deepEqual(await images(), []);
  });

  for (const folder of [NEWEST, `${NEWEST}/unpacked`]) {
    test(`a list in ${folder} that was signed by another key`, async () => {
      await otherKey.sign(join(root, folder, "SHA256SUMS"));
      await assert.rejects(ensure(), {
        code: "VERIFICATION_FAILED",
        message:
          /signature of .*SHA256SUMS is not valid: it was made with the key [0-9A-F]{16}, which is not in the keyring/,
      });
      assert.equal(server.requestsFor(DISK).length, 0);
    });

    test(`a list in ${folder} that was changed after it was signed`, async () => {
      await appendFile(join(root, folder, "SHA256SUMS"), `${"0".repeat(64)} *other\n`);
      await assert.rejects(ensure(), {
        code: "VERIFICATION_FAILED",
        message: /was changed after it was signed/,
      });
    });

    test(`a list in ${folder} that was not signed`, async () => {
      await rm(join(root, folder, "SHA256SUMS.gpg"));
      await assert.rejects(ensure(), { code: "VERIFICATION_FAILED", message: /is not signed/ });
      assert.equal(server.requestsFor(DISK).length, 0);
    });
  }

  test("a well-signed list of another series", async () => {
    await rm(join(root, NEWEST), { recursive: true });
    await publish(NEWEST, "ubuntu-24.04");
    await assert.rejects(ensure(), {
      code: "VERIFICATION_FAILED",
      message: /does not list an image of resolute/,
    });
  });

  test("a signature that is no signature", async () => {
    await writeFile(join(root, NEWEST, "SHA256SUMS.gpg"), "<html>please log in</html>");
    await assert.rejects(ensure(), {
      code: "VERIFICATION_FAILED",
      message: /no signature that gpgv can read/,
    });
  });

  for (const suffix of ["/unpacked/SHA256SUMS", `${NEWEST}/SHA256SUMS.gpg`, "vmlinuz-generic"]) {
    test(`a new build that is put in place when ${suffix} is asked for`, async () => {
      const action = (): Promise<void> =>
        publish(NEWEST, "ubuntu-26.04", "a newer kernel", disk.uncompressed);
      server.plan(suffix, { kind: "after", action });
      const image = await ensure();
      assert.equal(await readFile(image.kernelPath, "utf8"), "a newer kernel");
      assert.deepEqual(await images(), [image.name]);
      assert.equal(server.requestsFor(DISK).length, 1, "nothing large was fetched in vain");
    });
  }

  test("a connection that breaks is taken up where it broke", async () => {
    server.plan(DISK, { kind: "truncate", afterBytes: 2 * MIB });
    server.plan(DISK, { kind: "truncate", afterBytes: MIB });
    await ensure();
    const requests = server.requestsFor(DISK);
    assert.equal(requests.length, 3);
    assert.equal(requests[0]?.range, undefined);
    for (const request of requests.slice(1)) {
      assert.match(request.range ?? "", /^bytes=\d+-$/);
      assert.equal(request.status, 206);
    }
    assertLittleTwice(requests, (await stat(disk.qcow2)).size);
  });

  test("a server that falls silent is asked again", async () => {
    server.plan(DISK, { kind: "stall", afterBytes: 2 * MIB });
    await ensure({}, { silenceMs: 1_000 });
    const requests = server.requestsFor(DISK);
    assert.ok(requests.length >= 2);
    assert.match(requests[1]?.range ?? "", /^bytes=\d+-$/);
    assertLittleTwice(requests, (await stat(disk.qcow2)).size);
  });

  test("a server without ranges starts from the beginning", async () => {
    server.plan(DISK, { kind: "truncate", afterBytes: 2 * MIB });
    server.plan(DISK, { kind: "no range" });
    await ensure();
    assert.deepEqual(
      server.requestsFor(DISK).map(({ status }) => status),
      [200, 200],
    );
  });

  test("a beginning that is wrong is thrown away", async () => {
    const part = join(diskDirectory, "downloads", `${await sha256OfFile(disk.qcow2)}.part`);
    await mkdir(join(diskDirectory, "downloads"));
    await writeFile(part, Buffer.alloc(MIB));
    await ensure();
    await writeFile(part, Buffer.alloc(64 * MIB));
    await rm(join(diskDirectory, "base"), { recursive: true });
    await ensure();
    assert.deepEqual(await downloads(), []);
  });

  test("503, and then good", async () => {
    for (const suffix of ["SHA256SUMS", "SHA256SUMS.gpg", "vmlinuz-generic", DISK]) {
      server.plan(suffix, { kind: "status", status: 503 }, 2);
    }
    await ensure();
    assert.match(logged("info").join(), /answered 503 Service Unavailable; trying again in \d+ ms/);
  });

  test("the second mirror takes over, also in the middle of the disk", async () => {
    const second = await ImageServer.start(root, certificates);
    try {
      const unused = await ImageServer.start(root, certificates);
      await unused.stop();
      server.plan(DISK, { kind: "truncate", afterBytes: 2 * MIB });
      server.plan(DISK, { kind: "status", status: 503 }, 100);
      const image = await ensure({ mirrors: ["https://127.0.0.1:1", server.url, second.url] });
      assert.match(image.name, /resolute/);
      assert.equal(second.requestsFor(DISK).length, 1);
      assert.match(second.requestsFor(DISK)[0]?.range ?? "", /^bytes=/);
      assert.match(logged("info").join("\n"), /127\.0\.0\.1:1 could not give the image: .*refused/);
    } finally {
      await second.stop();
    }
  });

  test("a mirror with a bad signature does not keep the next one from being asked", async () => {
    const bad = join(world, "bad");
    await publishBuild(bad, {
      ...{ folder: NEWEST, stem: "ubuntu-26.04", qcow2: disk.qcow2, kernel: "evil", initrd: "evil" },
      key: otherKey,
    });
    const second = await ImageServer.start(bad, certificates);
    try {
      const image = await ensure({ mirrors: [second.url, server.url] });
      assert.equal(await readFile(image.kernelPath, "utf8"), "kernel of ubuntu-26.04");
    } finally {
      await second.stop();
      await rm(bad, { recursive: true });
    }
  });

  test("no mirror answers and nothing is in the cache", async () => {
    await assert.rejects(ensure({ mirrors: ["https://127.0.0.1:1"] }), {
      code: "UNAVAILABLE",
      message:
        "could not fetch https://127.0.0.1:1/releases/26.04/release/SHA256SUMS: the connection was refused",
    });
    await assert.rejects(ensure({ mirrors: ["https://127.0.0.1:1", "https://127.0.0.1:2"] }), {
      code: "UNAVAILABLE",
      message: /^none of the mirrors could give the image: .*127\.0\.0\.1:1.*; .*127\.0\.0\.1:2/,
    });
    assert.deepEqual(await images(), []);
  });

  test("no mirror answers, or what it says is not signed, and there is an image in the cache", async () => {
    const image = await ensure();
    assert.deepEqual(await ensure({ mirrors: ["https://127.0.0.1:1"] }), image);
    assert.match(
      logged("warn").join(),
      /the one in the cache is used; it was the newest 0 hours ago.*refused/,
    );
    log.length = 0;
    await publish(NEWEST, "ubuntu-26.04", "a newer kernel");
    await otherKey.sign(join(root, NEWEST, "SHA256SUMS"));
    assert.deepEqual(await ensure(), image);
    assert.match(logged("warn").join(), /the one in the cache is used.*signature/);
    await rm(join(root, NEWEST, "SHA256SUMS.gpg"));
    assert.deepEqual(await ensure(), image);
  });

  test("an image that other keys have signed is not taken from the cache", async () => {
    await ensure();
    const mirrors = ["https://127.0.0.1:1"];
    await assert.rejects(ensure({ mirrors, keyring: otherKey.keyring }), { code: "UNAVAILABLE" });
  });

  test("a certificate that nobody vouches for", async () => {
    await assert.rejects(ensure({ caCertificate: undefined }), {
      code: "UNAVAILABLE",
      hint: /set ca_certificate/,
    });
    assert.equal(server.requests.length, 0);
    await assert.rejects(ensure({ caCertificate: "/nonexistent" }), { code: "INVALID_CONFIG" });
  });

  test("keyrings that cannot be used", async () => {
    await assert.rejects(ensure({ keyring: "/nonexistent" }), {
      code: "NOT_FOUND",
      message: /does not exist/,
    });
    const armored = join(world, "armored.asc");
    await writeFile(armored, "-----BEGIN PGP PUBLIC KEY BLOCK-----\n");
    await assert.rejects(ensure({ keyring: armored }), { code: "INVALID_CONFIG", hint: /--dearmor/ });
  });

  describe("on a small disk", () => {
    const mounted: string[] = [];
    afterEach(async () => {
      for (const path of mounted.splice(0)) {
        await assertOnlyVerified(path);
        await run("umount", [path]);
      }
    });

    async function smallDisk(sizeMiB: number): Promise<string> {
      const path = await mkdtemp(join(world, "small-"));
      await run("mount", ["-t", "tmpfs", "-o", `size=${sizeMiB}m`, "test-small-disk", path]);
      mounted.push(path);
      return path;
    }

    test("no room for the download: said before anything is written", async () => {
      const directory = await smallDisk(CONTENT_MIB - 2);
      await assert.rejects(ensure({}, { diskDirectory: directory }), {
        code: "EXHAUSTED",
        message: /^the disk is full: no room for \d+ MiB more of the download \(\d+ MiB are free\) in /,
        hint: /Free some space/,
      });
      assert.equal((await downloads(directory)).length, 2);
      assert.deepEqual(await images(directory), []);
    });

    test("the disk fills up while a download of unknown length goes on", async () => {
      const directory = await smallDisk(CONTENT_MIB - 2);
      server.plan(DISK, { kind: "chunked" });
      await assert.rejects(ensure({}, { diskDirectory: directory }), {
        code: "EXHAUSTED",
        message: /^the disk is full: no room for the download in \S+$/,
      });
      assert.equal(
        (await downloads(directory)).length,
        2,
        "the beginning of the disk has given its room back",
      );
      assert.equal(server.requestsFor(DISK).length, 1);
    });

    test("no room for anything, and there is an image in the cache", async () => {
      const directory = await smallDisk(CONTENT_MIB * 4);
      const image = await ensure({}, { diskDirectory: directory });
      const filling = writeFile(join(directory, "filling"), Buffer.alloc(CONTENT_MIB * 4 * MIB));
      await assert.rejects(filling, { code: "ENOSPC" });
      assert.deepEqual(await ensure({}, { diskDirectory: directory }), image);
      assert.match(logged("warn").join(), /the one in the cache is used.*the disk is full/);
    });

    test("no room for the unpacked disk", async () => {
      const directory = await smallDisk(CONTENT_MIB + 4);
      await assert.rejects(ensure({}, { diskDirectory: directory }), {
        code: "EXHAUSTED",
        message: /^the disk is full: no room for the unpacked disk image in \S+$/,
      });
      assert.deepEqual(await listDirectory(join(directory, "base")), []);
    });
  });

  test("cancelled in the middle of the disk, and taken up later", async () => {
    server.plan(DISK, { kind: "stall", afterBytes: 2 * MIB });
    const controller = new AbortController();
    const fetching = ensure({}, { signal: controller.signal, silenceMs: 60_000 });
    const cancelled = assert.rejects(fetching, { code: "CANCELLED" });
    await untilServed(2 * MIB);
    await waitFor(async () => ((await partBytes()) >= 2 * MIB ? true : undefined), {
      ...{ timeoutMs: 60_000, intervalMs: 20, what: "the beginning" },
    });
    controller.abort();
    await cancelled;
    assert.deepEqual(await images(), []);
    await ensure();
    assert.equal(totalBytes(server.requestsFor(DISK)), (await stat(disk.qcow2)).size);
    assert.deepEqual(await downloads(), []);
  });

  test("two processes at once download once", async () => {
    const results = await Promise.all([fetchInChild().result, fetchInChild().result]);
    assert.deepEqual(
      results.map(({ exitCode }) => exitCode),
      [0, 0],
      results.map(({ stderr }) => stderr).join("\n"),
    );
    assert.equal(results[0]?.stdout, results[1]?.stdout);
    assert.equal(server.requestsFor(DISK).length, 1);
    assert.equal(server.requestsFor("vmlinuz-generic").length, 1);
    assert.equal((await images()).length, 1);
  });

  test("killed in the middle of the disk, and run again", async () => {
    server.plan(DISK, { kind: "stall", afterBytes: 2 * MIB });
    const killed = fetchInChild();
    await untilServed(2 * MIB);
    await waitFor(async () => ((await partBytes()) >= 2 * MIB ? true : undefined), {
      ...{ timeoutMs: 60_000, intervalMs: 20, what: "the beginning" },
    });
    // What a process that was killed while it unpacked would have left.
    const unfinished = join(
      diskDirectory,
      "base",
      ".ubuntu-cloud-resolute-release-0123456789ab.0123456789ab.tmp",
    );
    await mkdir(unfinished, { recursive: true });
    await writeFile(join(unfinished, "disk.raw"), "half");
    await mkdir(join(diskDirectory, "downloads", "verify-abcdef"));
    killed.child.kill("SIGKILL");
    await killed.result;
    assert.deepEqual(await images(), []);

    const again = await fetchInChild().result;
    assert.equal(again.exitCode, 0, again.stderr);
    assert.equal(totalBytes(server.requestsFor(DISK)), (await stat(disk.qcow2)).size, "nothing came twice");
    assert.equal((await images()).length, 1);
    assert.deepEqual(await downloads(), []);
    assert.equal(await exists(unfinished), false);
  });

  async function untilServed(bytes: number): Promise<void> {
    await waitFor(async () => (totalBytes(server.requestsFor(DISK)) >= bytes ? true : undefined), {
      ...{ timeoutMs: 60_000, intervalMs: 20, what: "half of the disk" },
    });
  }

  async function partBytes(): Promise<number> {
    const path = join(diskDirectory, "downloads", `${await sha256OfFile(disk.qcow2)}.part`);
    return (await exists(path)) ? (await stat(path)).size : 0;
  }

  function fetchInChild(): { child: ChildProcess; result: Promise<ChildResult> } {
    const argument = JSON.stringify({ source: source(), diskDirectory });
    const child = spawn(process.execPath, ["--import", "tsx", FETCH, argument], {
      stdio: ["ignore", "pipe", "pipe"],
    });
    return { child, result: collect(child) };
  }
});

interface ChildResult {
  exitCode: number | null;
  stdout: string;
  stderr: string;
}

async function collect(child: ChildProcess): Promise<ChildResult> {
  const result = { stdout: "", stderr: "" };
  child.stdout?.on("data", (data) => {
    result.stdout += String(data);
  });
  child.stderr?.on("data", (data) => {
    result.stderr += String(data);
  });
  const [exitCode] = (await once(child, "close")) as [number | null];
  return { ...result, exitCode };
}

/** What was on its way when the connection broke may have been lost. */
function assertLittleTwice(requests: readonly ServedRequest[], size: number): void {
  const twice = totalBytes(requests) - size;
  assert.ok(twice >= 0 && twice < MIB, `${twice} bytes came twice`);
}

function totalBytes(requests: ReadonlyArray<{ bytes: number }>): number {
  return requests.reduce((sum, { bytes }) => sum + bytes, 0);
}
