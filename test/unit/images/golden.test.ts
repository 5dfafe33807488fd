import assert from "node:assert/strict";
import { mkdir, mkdtemp, rm, stat, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { createWorkDisk, findGolden, goldenName, listGolden } from "../../../src/images/golden.ts";
import type { BaseImage } from "../../../src/images/image.ts";

const INPUTS = {
  baseName: "debian-packages-bookworm-0123",
  userData: "#cloud-config\n",
  diskSizeGiB: 8,
  bootProfile: "fast",
  templateVersion: "abcd",
};

describe("goldenName", () => {
  test("the same inputs give the same name", () => {
    assert.match(goldenName(INPUTS), /^[0-9a-f]{16}$/);
    assert.equal(goldenName({ ...INPUTS }), goldenName(INPUTS));
  });

  test("every input counts", () => {
    const changed = [
      { ...INPUTS, baseName: "x" },
      { ...INPUTS, userData: "#cloud-config\n\n" },
      { ...INPUTS, diskSizeGiB: 9 },
      { ...INPUTS, bootProfile: "compatible" },
      { ...INPUTS, templateVersion: "x" },
    ];
    assert.equal(new Set([INPUTS, ...changed].map(goldenName)).size, 6);
  });
});

test("a golden image that cannot be read is an error with its path, and an absent one is none", async (t) => {
  const directory = await mkdtemp(join(tmpdir(), "fleetingd-test-"));
  t.after(() => rm(directory, { recursive: true }));
  assert.equal(await findGolden(directory, "none"), undefined);
  assert.deepEqual(await listGolden(directory), []);
  await mkdir(join(directory, "golden/broken"), { recursive: true });
  await writeFile(join(directory, "golden/broken/image.json"), "{}");
  await assert.rejects(findGolden(directory, "broken"), {
    code: "CORRUPT",
    message: /golden\/broken\/image\.json/,
  });
});

test("a work disk has the wanted size and stays sparse; a smaller one than its base is refused", async (t) => {
  const directory = await mkdtemp(join(tmpdir(), "fleetingd-test-"));
  t.after(() => rm(directory, { recursive: true }));
  const diskPath = join(directory, "base.raw");
  await writeFile(diskPath, "start");
  await truncate(diskPath, 1.5 * 1024 ** 3);
  const base: BaseImage = {
    name: "base",
    diskPath,
    diskFormat: "raw",
    kernelPath: "/none",
    initrdPath: undefined,
    rootDevice: "/dev/vda",
    kernelArguments: [],
    createdAt: new Date(0),
  };
  const work = await stat(await createWorkDisk(join(directory, "work"), base, 3));
  assert.equal(work.size, 3 * 1024 ** 3);
  assert.ok(work.blocks * 512 < 1024 ** 2, `${work.blocks} blocks`);
  await assert.rejects(createWorkDisk(join(directory, "small"), base, 1), {
    code: "INVALID_ARGUMENT",
    hint: "Set vm_disk_size_gb to 2 or more.",
  });
});
