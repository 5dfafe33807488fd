import assert from "node:assert/strict";
import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, type TestContext, test } from "node:test";
import { mountPointsBelow, publishDirectory } from "../../../src/images/publish.ts";

async function scratch(t: TestContext): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), "fleetingd-test-"));
  t.after(() => rm(directory, { recursive: true }));
  return directory;
}

describe("publishDirectory", () => {
  test("the folder is seen only when it is whole", async (t) => {
    const parent = await scratch(t);
    await publishDirectory(join(parent, "image"), async (temporary) => {
      await writeFile(join(temporary, "disk"), "content");
      assert.equal((await readdir(parent)).includes("image"), false);
    });
    assert.deepEqual(await readdir(parent), ["image"]);
  });

  test("a failure leaves nothing", async (t) => {
    const parent = await scratch(t);
    const work = publishDirectory(join(parent, "image"), async (temporary) => {
      await writeFile(join(temporary, "disk"), "half");
      throw new Error("no");
    });
    await assert.rejects(work, /^Error: no$/);
    assert.deepEqual(await readdir(parent), []);
  });

  test("who comes second keeps the first one's", async (t) => {
    const parent = await scratch(t);
    const publish = (content: string): Promise<void> =>
      publishDirectory(join(parent, "image"), (temporary) => writeFile(join(temporary, "disk"), content));
    await publish("first");
    await publish("second");
    assert.equal(await readFile(join(parent, "image/disk"), "utf8"), "first");
    assert.deepEqual(await readdir(parent), ["image"]);
  });
});

test("mount points below a folder, innermost first", () => {
  const mountInfo = [
    "1 0 8:1 / / rw - ext4 /dev/a rw",
    "2 1 0:2 / /build/root rw - tmpfs t rw",
    "3 2 0:3 / /build/root/a\\040b rw - proc p rw",
    "4 1 0:4 / /build2 rw - tmpfs t rw",
  ].join("\n");
  assert.deepEqual(mountPointsBelow(mountInfo, "/build"), ["/build/root/a b", "/build/root"]);
});
