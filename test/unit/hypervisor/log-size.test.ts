/** Logs that grow are cut, also those that were quiet for long. */
import assert from "node:assert/strict";
import { appendFile, mkdtemp, rm, stat, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { sleep, waitFor } from "../../../src/host/wait.ts";
import { keepLogsSmall, MAX_LOG_BYTES } from "../../../src/hypervisor/output.ts";
import { silentLogger } from "../../../src/log.ts";

test("a log that grows after it was quiet is cut, again and again", async () => {
  const directory = await mkdtemp(join(tmpdir(), "fleetingd-logs-"));
  const [quiet, loud] = [join(directory, "quiet.log"), join(directory, "loud.log")] as const;
  await writeFile(quiet, "a line\n");
  await writeFile(loud, "");
  const stop = keepLogsSmall([quiet, loud], silentLogger);
  try {
    for (const round of [1, 2]) {
      // Long enough to be found quiet, after a look at what has changed.
      await sleep(3_500);
      await truncate(loud, MAX_LOG_BYTES);
      await appendFile(loud, `round ${round}`);
      await waitFor(async () => ((await stat(loud)).size === 0 ? true : undefined), {
        // Far below the time after which a quiet log is looked at anyway.
        timeoutMs: 60_000,
        intervalMs: 50,
        what: "a log that was cut",
      });
    }
    assert.equal((await stat(quiet)).size, 7);
  } finally {
    stop();
    await rm(directory, { recursive: true });
  }
});
