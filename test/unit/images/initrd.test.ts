import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdtemp, readdir, readFile, readlink, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { promisify } from "node:util";
import { writeCpio } from "../../../src/images/cpio.ts";
import { renderInitrd } from "../../../src/images/initrd.ts";

describe("writeCpio", () => {
  test("an empty archive is its trailer alone", () => {
    const archive = writeCpio([]).toString("latin1");
    assert.equal(archive.slice(0, 6), "070701");
    assert.ok(archive.includes("TRAILER!!!\0"));
    assert.equal(archive.length % 4, 0);
  });

  test("the same entries give the same bytes", () => {
    const entries = [{ path: "a", type: "file", data: "x" } as const];
    assert.deepEqual(writeCpio(entries), writeCpio(entries));
  });
});

test("cpio itself unpacks the initrd as it was meant", async (t) => {
  const archive = renderInitrd({
    busybox: Buffer.from("binary"),
    initScript: "#!/bin/busybox sh\n",
    modules: [
      { name: "virtio", data: Buffer.from("one") },
      { name: "virtio_console", data: Buffer.from("three") },
    ],
  });
  const directory = await mkdtemp(join(tmpdir(), "fleetingd-test-"));
  t.after(() => rm(directory, { recursive: true }));
  const unpacking = promisify(execFile)("cpio", ["-idm", "--quiet", "--nonmatching", "dev/console"], {
    cwd: directory,
  });
  unpacking.child.stdin?.end(archive);
  await unpacking;
  assert.equal(await readFile(join(directory, "bin/busybox"), "utf8"), "binary");
  assert.equal(await readlink(join(directory, "bin/insmod")), "busybox");
  assert.equal((await stat(join(directory, "init"))).mode & 0o777, 0o755);
  assert.equal(await readFile(join(directory, "modules/list"), "utf8"), "virtio\nvirtio_console console\n");
  assert.deepEqual((await readdir(join(directory, "modules"))).sort(), [
    "list",
    "virtio.ko",
    "virtio_console.ko",
  ]);
});
