import assert from "node:assert/strict";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { spawnDetached, terminateProcess } from "../../../src/host/process.ts";
import { assertNothingLeaked, snapshotHost } from "../../helpers/leaks.ts";

describe("the leak check", () => {
  test("passes when nothing was left", async () => {
    await assertNothingLeaked(await snapshotHost());
  });

  test("names a process and a file that were left", async () => {
    const directory = await mkdtemp(join(tmpdir(), "fleetingd-leaks-"));
    try {
      const before = await snapshotHost({ directories: [directory] });
      await writeFile(join(directory, "forgotten"), "");
      const { identity } = await spawnDetached("sleep", ["61"], { outputPath: "/dev/null" });
      assert.ok(identity);
      await assert.rejects(
        assertNothingLeaked(before, { directories: [directory], settleMs: 0 }),
        (error) => {
          assert.ok(error instanceof Error);
          assert.match(error.message, /processes: \d+ sleep 61/);
          assert.match(error.message, /files: .*\/forgotten/);
          return true;
        },
      );
      await terminateProcess(identity, 1_000);
    } finally {
      await rm(directory, { recursive: true });
    }
  });
});
