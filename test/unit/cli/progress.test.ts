import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { formatAge } from "../../../src/api/text.ts";
import type { CliContext } from "../../../src/cli/context.ts";
import { createProgress } from "../../../src/cli/progress.ts";

function record(terminalColumns: number | undefined): { context: CliContext; written: string[] } {
  const written: string[] = [];
  return {
    written,
    context: {
      version: "1.2.3",
      out: () => assert.fail("progress is nothing for standard output"),
      err: (line) => written.push(`${line}\n`),
      outRaw: () => assert.fail(),
      errRaw: (text) => written.push(text),
      terminalColumns,
    },
  };
}

describe("progress", () => {
  test("redraws one line on a terminal, never wider than it is, and leaves it clear", () => {
    const { context, written } = record(20);
    const progress = createProgress(context);
    progress.update("downloading a very long name");
    progress.note("done\u001b[31m");
    progress.end();
    assert.deepEqual(written, [
      "\r\u001b[2K0s  downloading a v",
      "\r\u001b[2Kdone [31m\n",
      "\r\u001b[2K0s  downloading a v",
      "\r\u001b[2K",
    ]);
  });

  test("writes plain lines elsewhere, and not each percent", () => {
    const { context, written } = record(undefined);
    const progress = createProgress(context);
    for (let percent = 0; percent < 50; percent++) progress.update(`downloading ${percent} %`);
    progress.update("booting");
    progress.end();
    assert.deepEqual(written, ["downloading 0 %\n", "booting\n"]);
  });
});

test("ages show their two largest units", () => {
  assert.deepEqual([0, 59, 60, 3_725, 273_600].map(formatAge), ["0s", "59s", "1m", "1h 2m", "3d 4h"]);
});
