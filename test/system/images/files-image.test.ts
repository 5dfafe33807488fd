/** One's own disk and kernel: imported as they are, or refused with the reason. */
import assert from "node:assert/strict";
import {
  appendFile,
  copyFile,
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  rm,
  stat,
  utimes,
  writeFile,
} from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, afterEach, before, beforeEach, describe, test } from "node:test";
import { listDirectory } from "../../../src/host/files.ts";
import { run } from "../../../src/host/run.ts";
import { sha256OfFile } from "../../../src/host/sha256.ts";
import { ensureFilesImage } from "../../../src/images/files-image.ts";
import type { BaseImage } from "../../../src/images/image.ts";
import type { FilesSource } from "../../../src/images/image-config.ts";
import { type DiskFiles, makeDisk } from "../../helpers/image-server.ts";
import { needsNamespace, needsPrograms } from "../../helpers/namespace.ts";
import { failOnLeaks } from "../../helpers/suite.ts";

failOnLeaks();

const skip = needsNamespace() || (await needsPrograms("qemu-img", "mke2fs"));

describe("files", { skip }, () => {
  let world: string;
  let disk: DiskFiles;
  let kernel: string;
  let initrd: string;
  let diskDirectory: string;

  before(async () => {
    world = await mkdtemp(join(tmpdir(), "files-"));
    disk = await makeDisk(world, 4);
    kernel = join(world, "vmlinuz");
    initrd = join(world, "initrd.img");
    await writeFile(kernel, "a kernel");
    await writeFile(initrd, "an initrd");
  });
  after(() => rm(world, { recursive: true }));

  beforeEach(async () => {
    diskDirectory = await mkdtemp(join(world, "disks-"));
  });
  afterEach(async () => {
    for (const name of await listDirectory(join(diskDirectory, "base"))) {
      assert.match(name, /^files-[0-9a-f]{12}$/);
      assert.ok((await readdir(join(diskDirectory, "base", name))).includes("image.json"));
    }
    await rm(diskDirectory, { recursive: true });
  });

  function ensure(changes: Partial<FilesSource> = {}, directory = diskDirectory): Promise<BaseImage> {
    const source: FilesSource = {
      type: "files",
      disk: disk.raw,
      diskSha256: undefined,
      kernel,
      kernelSha256: undefined,
      initrd,
      initrdSha256: undefined,
      rootDevice: "/dev/vda",
      kernelArguments: ["net.ifnames=0"],
      ...changes,
    };
    return ensureFilesImage(source, { diskDirectory: directory });
  }

  async function assertSameDisk(image: BaseImage): Promise<void> {
    assert.equal(image.diskFormat, "raw");
    await run("qemu-img", ["compare", "-q", "-f", "raw", "-F", "raw", disk.raw, image.diskPath]);
    const { size, blocks } = await stat(image.diskPath);
    assert.ok(blocks * 512 < size, "the copy is sparse");
  }

  test("a raw disk", async () => {
    const image = await ensure();
    await assertSameDisk(image);
    assert.equal(await readFile(image.kernelPath, "utf8"), "a kernel");
    assert.equal(await readFile(image.initrdPath ?? "", "utf8"), "an initrd");
    assert.equal(image.rootDevice, "/dev/vda");
    assert.deepEqual(image.kernelArguments, ["net.ifnames=0"]);
  });

  test("a qcow2 disk, without an initrd", async () => {
    const image = await ensure({ disk: disk.qcow2, initrd: undefined });
    await assertSameDisk(image);
    assert.equal(image.initrdPath, undefined);
  });

  test("is imported once, and again when a file or a setting changes", async () => {
    const own = join(world, "own-kernel");
    await copyFile(kernel, own);
    const first = await ensure({ kernel: own });
    assert.deepEqual(await ensure({ kernel: own }), first);
    const other = await ensure({ kernel: own, rootDevice: "/dev/vda1" });
    assert.notEqual(other.name, first.name);
    await utimes(own, new Date(), new Date(1_000_000));
    const third = await ensure({ kernel: own });
    assert.notEqual(third.name, first.name);
    await appendFile(own, ", changed");
    assert.equal(await readFile(third.kernelPath, "utf8"), "a kernel", "what was imported stays as it was");
  });

  test("checksums: good ones name the image, wherever its files are", async () => {
    const sums = {
      diskSha256: await sha256OfFile(disk.raw),
      kernelSha256: await sha256OfFile(kernel),
      initrdSha256: await sha256OfFile(initrd),
    };
    const image = await ensure(sums);
    await assertSameDisk(image);
    assert.deepEqual(await ensure({ ...sums, kernel: "/moved/elsewhere" }), image);
  });

  for (const part of ["disk", "kernel", "initrd"] as const) {
    test(`checksums: a wrong one of the ${part}`, async () => {
      await assert.rejects(ensure({ [`${part}Sha256`]: "0".repeat(64) }), {
        code: "VERIFICATION_FAILED",
        message: new RegExp(`^the ${part}.* has the SHA-256 sum [0-9a-f]{64}, not 0{64}$`),
      });
      assert.deepEqual(await listDirectory(join(diskDirectory, "base")), []);
    });
  }

  test("disks that lean on other files are refused", async () => {
    const overlay = join(world, "overlay.qcow2");
    await run("qemu-img", ["create", "-q", "-f", "qcow2", "-F", "raw", "-b", disk.raw, overlay]);
    await assert.rejects(ensure({ disk: overlay }), {
      code: "INVALID_ARGUMENT",
      message: `the disk image ${overlay} is only a difference to another file (${disk.raw})`,
      hint: /qemu-img convert/,
    });
    // A guest may write this to its raw disk, hoping for the host's files.
    const secret = join(world, "secret.raw");
    await run("qemu-img", [
      "create",
      "-q",
      "-u",
      "-f",
      "qcow2",
      "-F",
      "raw",
      "-b",
      "/etc/shadow",
      secret,
      "1M",
    ]);
    await assert.rejects(ensure({ disk: secret }), { code: "INVALID_ARGUMENT", message: /\/etc\/shadow/ });
    const external = join(world, "external.qcow2");
    const options = `data_file=${join(world, "external.data")}`;
    await run("qemu-img", ["create", "-q", "-f", "qcow2", "-o", options, external, "1M"]);
    await assert.rejects(ensure({ disk: external }), {
      code: "INVALID_ARGUMENT",
      message: /in another file/,
    });
    assert.deepEqual(await listDirectory(join(diskDirectory, "base")), []);
  });

  test("other formats are refused", async () => {
    const vmdk = join(world, "disk.vmdk");
    await run("qemu-img", ["convert", "-f", "raw", "-O", "vmdk", disk.raw, vmdk]);
    await assert.rejects(ensure({ disk: vmdk }), {
      code: "INVALID_ARGUMENT",
      message: `the disk image ${vmdk} has the format vmdk, not raw or qcow2`,
      hint: /qemu-img convert -f vmdk/,
    });
  });

  test("files that are not there, or are none", async () => {
    await assert.rejects(ensure({ disk: "/nonexistent/disk.raw" }), {
      code: "NOT_FOUND",
      message: "the disk image /nonexistent/disk.raw does not exist",
    });
    await assert.rejects(ensure({ initrd: world }), {
      code: "INVALID_ARGUMENT",
      message: `the initrd ${world} is not a regular file`,
    });
  });

  test("no room", async () => {
    const small = join(world, "small");
    await mkdir(small);
    await run("mount", ["-t", "tmpfs", "-o", "size=3m", "test-small-disk", small]);
    try {
      for (const path of [disk.raw, disk.qcow2]) {
        await assert.rejects(ensure({ disk: path }, small), {
          code: "EXHAUSTED",
          message: `the disk is full: no room for a copy of ${path} in ${small}/base`,
        });
        assert.deepEqual(await listDirectory(join(small, "base")), []);
      }
    } finally {
      await run("umount", [small]);
    }
  });

  test("two at once import once", async () => {
    const [first, second] = await Promise.all([ensure(), ensure()]);
    assert.deepEqual(first, second);
    assert.equal((await listDirectory(join(diskDirectory, "base"))).length, 1);
  });
});
