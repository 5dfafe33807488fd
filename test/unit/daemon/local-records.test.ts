import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, test } from "node:test";
import { loadLocalRecords } from "../../../src/daemon/local-records.ts";
import { type InstanceState, newRecord } from "../../../src/pool/instance.ts";
import { createJournal, type Journal } from "../../../src/pool/journal.ts";

describe("records of which several name one slot", () => {
  let stateDirectory: string;
  let journal: Journal;

  beforeEach(async () => {
    stateDirectory = await mkdtemp(join(tmpdir(), "local-records-"));
    journal = createJournal(stateDirectory);
  });
  afterEach(() => rm(stateDirectory, { recursive: true }));

  async function write(state: InstanceState, slot: number): Promise<string> {
    const record = newRecord("p", undefined, Date.now());
    const data = { subnet: "172.16.0.0/16", slot, cloneDirectory: "/clones/one", goldenImage: "golden" };
    await journal.write({ ...record, state, data });
    return record.id;
  }

  test("are one of an instance that is there, and others of what is gone", async () => {
    const [ready, gone, other] = [await write("ready", 1), await write("failed", 1), await write("ready", 2)];
    const { records, unreadable } = await loadLocalRecords(journal);
    assert.deepEqual(unreadable, []);
    const slots = new Map(records.map(({ id, data }) => [id, data["slot"]]));
    assert.deepEqual([slots.get(ready), slots.get(gone), slots.get(other)], [1, undefined, 2]);
  });

  test("keep what has to be torn down if none of them is ready", async () => {
    const ids = [await write("creating", 1), await write("deleting", 1)];
    const { records } = await loadLocalRecords(journal);
    assert.deepEqual(new Set(records.map(({ id }) => id)), new Set(ids));
    assert.ok(records.every(({ data }) => data["slot"] === 1));
  });

  test("are left alone if nobody can say whose it is", async () => {
    const ids = [await write("ready", 1), await write("ready", 1)];
    const { records, unreadable } = await loadLocalRecords(journal);
    assert.deepEqual(records, []);
    assert.equal(unreadable.length, 2);
    for (const id of ids) {
      const reason = unreadable.find(({ path }) => path.endsWith(id))?.reason ?? "";
      assert.match(reason, /names the same slot as the record of fl-/);
    }
  });
});
