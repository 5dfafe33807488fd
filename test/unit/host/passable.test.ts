import assert from "node:assert/strict";
import { chmod, mkdir, mkdtemp, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { makePassable } from "../../../src/host/files.ts";

test("others get through the folders from the root on, and through none above or beside it", async () => {
  const above = await mkdtemp(join(tmpdir(), "passable-"));
  try {
    const paths = ["root", "root/golden", "root/golden/image", "root/beside", "root-like"];
    for (const path of paths) await mkdir(join(above, path), { mode: 0o700 });
    await chmod(join(above, "root/golden"), 0o750);
    const root = join(above, "root");
    for (const path of ["root/golden/image", "root-like"]) await makePassable(root, join(above, path));
    const modes = await Promise.all(
      ["", ...paths].map(async (path) => ((await stat(join(above, path))).mode & 0o777).toString(8)),
    );
    assert.deepEqual(modes, ["700", "701", "751", "701", "700", "700"]);
  } finally {
    await rm(above, { recursive: true });
  }
});
