import assert from "node:assert/strict";
import { mkdir, mkdtemp, readdir, readlink, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { ifExists } from "../../../src/host/files.ts";
import { spawnDetached } from "../../../src/host/process.ts";
import { run } from "../../../src/host/run.ts";

describe("a process that outlives us", () => {
  test("leaves no file open, whether it starts or not", async () => {
    const directory = await mkdtemp(join(tmpdir(), "fleetingd-process-"));
    const outputPath = join(directory, "output");
    const errorPath = join(directory, "errors");
    try {
      await spawnDetached("true", [], { outputPath, errorPath });
      // One that nobody but root may search, as root's own is: another user is refused where root finds nothing.
      await mkdir(join(directory, "private"), { mode: 0 });
      const env = { PATH: `${join(directory, "private")}:/usr/bin` };
      await assert.rejects(spawnDetached("fleetingd-no-such-program", [], { outputPath, errorPath, env }), {
        code: "MISSING_PROGRAM",
      });
      await assert.rejects(run("fleetingd-no-such-program", [], { env }), { code: "MISSING_PROGRAM" });
      const inputPath = join(directory, "absent");
      await assert.rejects(spawnDetached("true", [], { outputPath, errorPath, inputPath }), {
        code: "ENOENT",
      });
      assert.deepEqual(
        (await openFiles()).filter((path) => path.startsWith(directory)),
        [],
      );
    } finally {
      await rm(directory, { recursive: true });
    }
  });
});

async function openFiles(): Promise<string[]> {
  const links = await readdir("/proc/self/fd");
  // The one that this reads is gone by now.
  const paths = await Promise.all(links.map((link) => ifExists(readlink(`/proc/self/fd/${link}`))));
  return paths.filter((path) => path !== undefined);
}
