import assert from "node:assert/strict";
import { mkdtemp, open, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { fullFromOutside, hasWrittenMuch, readUsage } from "../../../src/sources/local/disk-room.ts";

const MIB = 1024 ** 2;

describe("a clone, from outside", () => {
  let folder: string;
  let golden: string;

  before(async () => {
    folder = await mkdtemp(join(tmpdir(), "disk-room-"));
    golden = await makeFile("golden", 32, 8);
  });
  after(() => rm(folder, { recursive: true }));

  /** A file of that size of which only a part was written. */
  async function makeFile(name: string, sizeMiB: number, writtenMiB: number): Promise<string> {
    const path = join(folder, name);
    const file = await open(path, "w");
    await file.write(Buffer.alloc(writtenMiB * MIB, "data"));
    await file.truncate(sizeMiB * MIB);
    await file.sync();
    await file.close();
    return path;
  }

  const full = async (clonePath: string): Promise<string | undefined> =>
    fullFromOutside(await readUsage(clonePath, golden));

  test("has room until nearly all of its disk was written, the golden image's part included", async () => {
    // A reflink is as long as its golden image, and has its blocks; an overlay has neither.
    assert.equal(await full(await makeFile("reflink", 32, 28)), undefined);
    assert.match((await full(await makeFile("full reflink", 32, 31))) ?? "", /nearly full/);
    assert.equal(await full(await makeFile("overlay", 20, 20)), undefined);
    assert.match(
      (await full(await makeFile("full overlay", 23, 23))) ?? "",
      /its disk is nearly full: 0\.0 of 0\.0 GiB were written/,
    );
  });

  test("is worth a question when it has written a good part of what was free", async () => {
    const isAsked = async (name: string, sizeMiB: number, writtenMiB: number): Promise<boolean> =>
      hasWrittenMuch(await readUsage(await makeFile(name, sizeMiB, writtenMiB), golden));
    assert.equal(await isAsked("fresh reflink", 32, 9), false);
    assert.equal(await isAsked("used reflink", 32, 16), true);
    assert.equal(await isAsked("fresh overlay", 1, 1), false);
    assert.equal(await isAsked("used overlay", 8, 8), true);
  });

  test("is none where one of the two is gone", async () => {
    assert.equal(await full(join(folder, "nowhere")), undefined);
    assert.equal(await readUsage(golden, join(folder, "nowhere")), undefined);
    assert.equal(hasWrittenMuch(undefined), false);
  });
});
