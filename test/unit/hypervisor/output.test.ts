import assert from "node:assert/strict";
import { mkdtemp, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { cutLargeLog, readTail } from "../../../src/hypervisor/output.ts";

let directory: string;
before(async () => {
  directory = await mkdtemp(join(tmpdir(), "output-"));
});
after(() => rm(directory, { recursive: true }));

async function log(text: string): Promise<string> {
  const path = join(directory, "log");
  await writeFile(path, text);
  return path;
}

const everything = { fromByte: 0, isNoise: () => false };

describe("the last output", () => {
  test("is that of this run, without noise and empty lines", async () => {
    const earlier = "from before\n";
    const path = await log(`${earlier}noise\n\nwhat happened\n`);
    const isNoise = (line: string): boolean => line === "noise";
    assert.equal(await readTail(path, { fromByte: earlier.length, isNoise }), "what happened");
  });

  test("is short", async () => {
    const lines = Array.from({ length: 5_000 }, (_, index) => `line ${index}`);
    const tail = (await readTail(await log(lines.join("\n")), everything)).split("\n");
    assert.equal(tail.length, 20);
    assert.equal(tail.at(-1), "line 4999");
  });

  test("survives that the log was cut meanwhile, is absent, or is no file", async () => {
    assert.equal(await readTail(await log("new\n"), { ...everything, fromByte: 1_000 }), "new");
    assert.equal(await readTail(join(directory, "absent"), everything), "");
    assert.match(await readTail(directory, everything), /could not be read/);
  });
});

test("a log is emptied only beyond its limit", async () => {
  const path = await log("12345");
  assert.equal(await cutLargeLog(path, 5), 5);
  assert.equal((await stat(path)).size, 5);
  assert.equal(await cutLargeLog(path, 4), 5);
  assert.equal((await stat(path)).size, 0);
  assert.equal(await cutLargeLog(join(directory, "absent"), 4), 0);
});
