import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { createLogger } from "../../../src/log.ts";
import { type Entry, newEntry } from "../../../src/pool/entry.ts";
import { newRecord } from "../../../src/pool/instance.ts";
import type { Journal } from "../../../src/pool/journal.ts";
import { Records } from "../../../src/pool/records.ts";

/** More than it takes until folders are looked at twice. */
const SECONDS = 12;

function failure(code: string): Error {
  return Object.assign(new Error(`${code}: on purpose ${Math.random()}`), { code });
}

/** Records of one instance, on a disk that fails as `disk` says. */
function recordsOf(disk: { looking?: string; writing?: string; gone?: boolean }) {
  const lines: string[] = [];
  const entry: Entry = newEntry(newRecord("p", undefined, 0), true);
  const journal = {
    async missing(ids: readonly string[]) {
      if (disk.looking !== undefined) throw failure(disk.looking);
      return disk.gone ? [...ids] : [];
    },
    async write() {
      if (disk.writing !== undefined) throw failure(disk.writing);
      disk.gone = false;
    },
  } as unknown as Journal;
  const logger = createLogger({ format: "text", level: "info", write: (line) => void lines.push(line) });
  const records = new Records(new Map([[entry.record.id, entry]]), journal, logger);
  const pass = async (): Promise<string[]> => {
    lines.length = 0;
    for (let second = 0; second < SECONDS; second++) await records.restore();
    return [...lines];
  };
  return { disk, entry, pass };
}

describe("records that are not on disk as they should be", () => {
  test("are complained of once, however long the same stands against them, and once more when that comes back", async () => {
    const { disk, pass } = recordsOf({ looking: "ENOTDIR" });
    const said = await pass();
    assert.equal(said.length, 1, said.join(""));
    assert.match(said[0] ?? "", /records could not be written again.*ENOTDIR/);
    assert.deepEqual(await pass(), []);
    delete disk.looking;
    assert.deepEqual(await pass(), []);
    disk.looking = "ENOTDIR";
    assert.equal((await pass()).length, 1);
    disk.looking = "EACCES";
    assert.match((await pass()).join(""), /^[^\n]*EACCES[^\n]*\n$/);
  });

  test("are written as soon as that is possible", async () => {
    const { disk, entry, pass } = recordsOf({ writing: "ENOSPC" });
    entry.unsaved = true;
    assert.equal((await pass()).length, 1);
    assert.equal(entry.unsaved, true);
    delete disk.writing;
    assert.deepEqual(await pass(), []);
    assert.equal(entry.unsaved, false);
    disk.gone = true;
    assert.match((await pass()).join(""), /^[^\n]*were gone from the state directory[^\n]*\n$/);
  });

  test("wait for the step that is about to write them", async () => {
    const { disk, entry, pass } = recordsOf({ writing: "ENOSPC", gone: true });
    entry.step = new AbortController();
    entry.unsaved = true;
    assert.deepEqual(await pass(), []);
    assert.equal(disk.gone, true);
  });
});
