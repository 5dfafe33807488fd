import assert from "node:assert/strict";
import { mkdir, mkdtemp, readFile, rm, stat, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { describe, type TestContext, test } from "node:test";
import { create } from "tar";
import { FleetingdError } from "../../../src/errors.ts";
import {
  createReportDisk,
  type PrebuildReport,
  readPrebuildReport,
  requireSuccess,
  saveReport,
} from "../../../src/images/report.ts";

const GOOD: Record<string, string> = {
  version: "1\n",
  "finish.code": "0\n",
  "cloud-init/result.json": '{"v1": {"datasource": "NoCloud", "errors": []}}',
  "kernel/release": "6.1.0\n",
  "kernel/root-device": "/dev/vda1\n",
  "kernel/root-type": "ext4\n",
  "kernel/modules/101-virtio.ko": "first",
  "kernel/modules/102-virtio_blk.ko": "second",
};

async function reportOf(t: TestContext, files: Record<string, string>, diskMiB = 1): Promise<PrebuildReport> {
  const directory = await mkdtemp(join(tmpdir(), "fleetingd-test-"));
  t.after(() => rm(directory, { recursive: true }));
  const content = join(directory, "content");
  for (const [name, text] of Object.entries(files)) {
    await mkdir(dirname(join(content, name)), { recursive: true });
    await writeFile(join(content, name), text);
  }
  await symlink("/etc/passwd", join(content, "link"));
  // As in the guest: the archive at the start of a larger disk.
  const disk = join(directory, "disk");
  await createReportDisk(disk, diskMiB);
  const tarFile = join(directory, "tar");
  await create({ cwd: content, file: tarFile }, ["."]);
  await writeFile(disk, await readFile(tarFile), { flag: "r+" });
  assert.equal((await stat(disk)).size, diskMiB * 1024 ** 2);
  return readPrebuildReport(disk);
}

function failure(report: PrebuildReport, commands: string[]): FleetingdError {
  try {
    requireSuccess(report, commands);
  } catch (error) {
    assert.ok(error instanceof FleetingdError);
    assert.equal(error.code, "PREBUILD_FAILED");
    return error;
  }
  return assert.fail("did not throw");
}

describe("readPrebuildReport", () => {
  test("a good report says what the clones boot with", async (t) => {
    const report = await reportOf(t, {
      ...GOOD,
      "commands/0001.code": "0\n",
      "commands/0001.out": "hello\n",
    });
    requireSuccess(report, ["echo hello"]);
    assert.deepEqual(report.commands, [{ number: 1, exitCode: 0, output: "hello\n" }]);
    assert.equal(report.kernel.rootDevice, "/dev/vda1");
    assert.deepEqual(
      report.kernel.modules.map(({ name }) => name),
      ["virtio", "virtio_blk"],
    );
    assert.equal(report.files.has("link"), false);
  });

  test("nothing is read behind the archive's end", { timeout: 60_000 }, async (t) => {
    const TIB_IN_MIB = 1024 ** 2;
    const report = await reportOf(t, GOOD, TIB_IN_MIB);
    assert.equal(report.kernel.release, "6.1.0");
  });

  test("an empty disk is a prebuild that did not come to its end", async (t) => {
    const directory = await mkdtemp(join(tmpdir(), "fleetingd-test-"));
    t.after(() => rm(directory, { recursive: true }));
    await createReportDisk(join(directory, "disk"), 1);
    await assert.rejects(readPrebuildReport(join(directory, "disk")), { code: "PREBUILD_FAILED" });
  });

  test("what it says can be kept", async (t) => {
    const directory = await mkdtemp(join(tmpdir(), "fleetingd-test-"));
    t.after(() => rm(directory, { recursive: true }));
    await saveReport(await reportOf(t, GOOD), directory);
    assert.equal(await readFile(join(directory, "kernel/release"), "utf8"), "6.1.0\n");
  });
});

describe("requireSuccess", () => {
  test("a failed command is reported with its text, code and output", async (t) => {
    const report = await reportOf(t, {
      ...GOOD,
      "commands/0001.code": "0\n",
      "commands/0001.out": "",
      "commands/0002.code": "100\n",
      "commands/0002.out": "E: Unable to locate package nonsense\n",
    });
    const error = failure(report, ["apt-get update", "apt-get install nonsense", "true"]);
    assert.match(error.message, /extra command 2 of 3 failed with exit code 100: apt-get install nonsense\n/);
    assert.match(error.message, /E: Unable to locate package nonsense/);
  });

  test("cloud-init's own errors fail the prebuild", async (t) => {
    const result = '{"v1": {"errors": ["(\'package_update_upgrade_install\', …)"]}}';
    const report = await reportOf(t, { ...GOOD, "cloud-init/result.json": result });
    assert.match(failure(report, []).message, /package_update_upgrade_install/);
  });

  test("a command that was never run is noticed", async (t) => {
    assert.match(failure(await reportOf(t, GOOD), ["true"]).message, /only 0 of 1/);
  });

  test("a disk that could not be made ready is no golden image", async (t) => {
    const report = await reportOf(t, {
      ...GOOD,
      "finish.code": "1\n",
      "finish.out": "forget\nno such file\n",
    });
    assert.match(failure(report, []).message, /no such file/);
  });
});
