/** Clones and work disks on the file systems that a disk directory may be on. */
import assert from "node:assert/strict";
import {
  chmod,
  mkdir,
  mkdtemp,
  open,
  readdir,
  readFile,
  rm,
  stat,
  statfs,
  truncate,
  utimes,
  writeFile,
} from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { run } from "../../../src/host/run.ts";
import { createClone } from "../../../src/images/clones.ts";
import { completeGolden, createWorkDisk, publishGolden, removeGolden } from "../../../src/images/golden.ts";
import type { BaseImage, GoldenImage } from "../../../src/images/image.ts";
import type { PrebuildReport } from "../../../src/images/report.ts";
import {
  listSnapshots,
  publishSnapshot,
  removeSnapshot,
  snapshotDamage,
} from "../../../src/images/snapshots.ts";
import { needsNamespace, needsPrograms } from "../../helpers/namespace.ts";
import { failOnLeaks } from "../../helpers/suite.ts";

failOnLeaks();

const MIB = 1024 ** 2;
const CONTENT_MIB = 8;

/** What a prebuild of a kernel with everything built in reports. */
const REPORT: PrebuildReport = {
  cloudInit: { finished: true, errors: [] },
  commands: [],
  finish: { exitCode: 0, output: "" },
  kernel: { release: "6.1.0", rootDevice: "/dev/vda", rootType: "ext4", modules: [], missing: [] },
  files: new Map([["version", Buffer.from("1\n")]]),
};

interface FileSystem {
  name: string;
  /** How to make one in a file; undefined: a tmpfs, which needs none. */
  make: string[] | undefined;
  sizeMiB: number;
  format: "raw" | "qcow2";
}

const FILE_SYSTEMS: FileSystem[] = [
  { name: "ext4", make: ["mke2fs", "-q", "-t", "ext4", "-F"], sizeMiB: 96, format: "qcow2" },
  { name: "xfs", make: ["mkfs.xfs", "-q", "-m", "reflink=1"], sizeMiB: 384, format: "raw" },
  {
    name: "xfs without reflinks",
    make: ["mkfs.xfs", "-q", "-m", "reflink=0"],
    sizeMiB: 384,
    format: "qcow2",
  },
  { name: "btrfs", make: ["mkfs.btrfs", "-q"], sizeMiB: 256, format: "raw" },
  { name: "tmpfs", make: undefined, sizeMiB: 96, format: "qcow2" },
];

const PROGRAMS = ["mke2fs", "mkfs.xfs", "mkfs.btrfs", "qemu-img", "qemu-io", "losetup"];
const skip = needsNamespace() || (await needsPrograms(...PROGRAMS));

async function usedBytes(path: string): Promise<number> {
  const { bfree, blocks, bsize } = await statfs(path);
  return (blocks - bfree) * bsize;
}

async function makeGolden(directory: string): Promise<GoldenImage> {
  const files = join(directory, "files");
  await mkdir(files);
  const base: BaseImage = {
    name: "base",
    diskPath: join(files, "base.raw"),
    diskFormat: "raw",
    kernelPath: join(files, "kernel"),
    initrdPath: undefined,
    rootDevice: "/dev/vda",
    kernelArguments: [],
    createdAt: new Date(0),
  };
  await writeFile(base.kernelPath, "kernel");
  await writeFile(base.diskPath, Buffer.alloc(CONTENT_MIB * MIB, 0xa5));
  await truncate(base.diskPath, 1024 * MIB);
  return publishGolden(directory, "g", async (temporary) => {
    await createWorkDisk(temporary, base, 2);
    await completeGolden(temporary, {
      diskDirectory: directory,
      name: "g",
      inputs: "g",
      base,
      report: REPORT,
    });
  });
}

for (const { name, make, sizeMiB, format } of FILE_SYSTEMS) {
  describe(`a disk directory on ${name}`, { skip }, () => {
    let scratch = "";
    let directory = "";
    let golden: GoldenImage;

    before(async () => {
      scratch = await mkdtemp(join(tmpdir(), "fleetingd-clones-"));
      directory = join(scratch, "mounted");
      await mkdir(directory);
      if (make === undefined) {
        await run("mount", ["-t", "tmpfs", "-o", `size=${sizeMiB}m`, "tmpfs", directory]);
      } else {
        const image = join(scratch, "image");
        await writeFile(image, "");
        await truncate(image, sizeMiB * MIB);
        await run(make[0] ?? "", [...make.slice(1), image]);
        await run("mount", ["-o", "loop", image, directory]);
      }
      golden = await makeGolden(directory);
    });

    after(async () => {
      await run("umount", [directory]);
      await rm(scratch, { recursive: true });
    });

    test("a golden image stays sparse", async () => {
      const { size, blocks } = await stat(golden.diskPath);
      assert.equal(size, 2 * 1024 ** 3);
      assert.ok(blocks * 512 < (CONTENT_MIB + 4) * MIB, `${blocks} blocks`);
    });

    test("a clone takes next to no space, has the image's size and content, and is its own", async () => {
      const usedBefore = await usedBytes(directory);
      const clones = await Promise.all(["one", "two"].map((id) => createClone(golden, join(directory, id))));
      await run("sync", ["-f", directory]);
      assert.ok((await usedBytes(directory)) - usedBefore < 2 * MIB);
      for (const clone of clones) {
        assert.equal(clone.format, format);
        assert.equal((await stat(clone.path)).mode & 0o777, 0o600);
        const { stdout } = await run("qemu-img", ["info", "--output=json", "-f", format, clone.path]);
        assert.equal(JSON.parse(stdout)["virtual-size"], 2 * 1024 ** 3);
      }
      const [one, two] = clones.map(({ path }) => path);
      await qemuIo(format, one, "write -P 0x11 4096 4096");
      await qemuIo(format, one, "read -P 0x11 4096 4096");
      await qemuIo(format, two, "read -P 0xa5 4096 4096");
      const disk = await open(golden.diskPath);
      const { buffer } = await disk.read(Buffer.alloc(4096), 0, 4096, 4096);
      await disk.close();
      assert.deepEqual(buffer, Buffer.alloc(4096, 0xa5));
    });

    test("what exists already is not overwritten", async () => {
      const path = join(directory, "taken");
      await writeFile(path, "somebody's");
      await assert.rejects(createClone(golden, path), { code: "EEXIST" });
      assert.equal((await stat(path)).size, 10);
    });

    test("a snapshot is complete or absent, its clones have its disk, and damage to it is found", async () => {
      const broken = publishSnapshot(directory, "s", golden, () => Promise.reject(new Error("on purpose")));
      await assert.rejects(broken, /on purpose/);
      assert.deepEqual(await readdir(join(directory, "snapshots")), []);
      const snapshot = await publishSnapshot(directory, "s", golden, async (parts) => {
        await qemuIo(parts.disk.format, parts.disk.path, "write -P 0x22 8192 4096");
        await writeFile(parts.memoryPath, Buffer.alloc(MIB, "memory"));
        await writeFile(join(parts.stateDirectory, "devices"), "state");
        await writeFile(parts.kernelPath, "kernel");
      });
      assert.deepEqual(await listSnapshots(directory), [snapshot]);
      assert.equal(await readFile(snapshot.kernelPath ?? "", "utf8"), "kernel");
      const clone = await createClone(snapshot, join(directory, "of-a-snapshot"));
      assert.equal(clone.format, format);
      await qemuIo(format, clone.path, "read -P 0x22 8192 4096");
      await qemuIo(format, clone.path, "read -P 0xa5 4096 4096");

      assert.equal(await snapshotDamage(snapshot), undefined);
      const devices = join(snapshot.stateDirectory, "devices");
      await writeFile(devices, "other");
      assert.match((await snapshotDamage(snapshot)) ?? "", /checksum of its devices' state/);
      await writeFile(devices, "state");
      assert.equal(await snapshotDamage(snapshot), undefined);
      await utimes(snapshot.memoryPath, new Date(), new Date());
      assert.match((await snapshotDamage(snapshot)) ?? "", /its memory was written to/);
      await truncate(snapshot.memoryPath, 10);
      assert.match((await snapshotDamage(snapshot)) ?? "", /its memory has 10 bytes/);
      await removeSnapshot(directory, "s");
      await removeSnapshot(directory, "s");
      assert.match((await snapshotDamage(snapshot)) ?? "", /has been removed/);
      assert.deepEqual(await readdir(join(directory, "snapshots")), []);
    });

    test("an image that is removed is gone as a whole", async () => {
      await removeGolden(directory, "g");
      await removeGolden(directory, "g");
      assert.deepEqual(await readdir(join(directory, "golden")), []);
    });
  });
}

async function qemuIo(format: string, path: string | undefined, command: string): Promise<void> {
  assert.ok(path !== undefined);
  const { stdout } = await run("qemu-io", ["-f", format, "-c", command, path]);
  assert.doesNotMatch(stdout, /failed|differ|error/i);
}

describe("a full disk", { skip }, () => {
  test("fails the clone and leaves no half of it", async (t) => {
    const scratch = await mkdtemp(join(tmpdir(), "fleetingd-clones-"));
    const small = join(scratch, "small");
    await mkdir(small);
    await run("mount", ["-t", "tmpfs", "-o", "size=64k", "tmpfs", small]);
    t.after(async () => {
      await run("umount", [small]);
      await rm(scratch, { recursive: true });
    });
    const golden = await makeGolden(scratch);
    await chmod(small, 0o700);
    await assert.rejects(createClone(golden, join(small, "clone")), { code: "ENOSPC" });
    assert.deepEqual(await readdir(small), []);
  });
});
