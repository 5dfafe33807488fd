/** The power is cut after each of the steps that records are written in, one after the other: the next daemon goes on. */
import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { waitFor } from "../../../src/host/wait.ts";
import { silentLogger } from "../../../src/log.ts";
import { createJournal, type Journal } from "../../../src/pool/journal.ts";
import { createLimiter } from "../../../src/pool/limiter.ts";
import { Pool } from "../../../src/pool/pool.ts";
import { layOut, type Recorder, recordFiles } from "../../helpers/fs-recorder.ts";
import { createStandInSource, type StandInSource } from "../../helpers/stand-in-source.ts";

const WARM = 1;
/** Fewer would mean that the recorder misses what the journal does. */
const FEWEST_OPERATIONS = 60;

describe("when the power is cut", () => {
  let folder: string;
  let root: string;
  let recorder: Recorder;
  /** After so many operations it was promised that this id is the group's, or (undefined) that it was asked to end. */
  const promises: { at: number; id: string; kept: boolean }[] = [];

  before(async () => {
    folder = await mkdtemp(join(tmpdir(), "power-loss-"));
    root = join(folder, "original");
    recorder = recordFiles(root);
    try {
      await liveThroughTwoJobs();
    } finally {
      recorder.stop();
    }
  });
  after(() => rm(folder, { recursive: true }));

  function createPool(journal: Journal, source: StandInSource): Pool {
    const settings = { warmInstances: WARM, maxInstances: 5, maxIdleAgeMs: 0, heartbeatTimeoutMs: 0 };
    const limits = { creates: createLimiter(2), deletes: createLimiter(2) };
    return new Pool({ name: "p", settings, source, journal, limits, logger: silentLogger });
  }

  async function untilIdle(pool: Pool, claimed: number): Promise<void> {
    const isIdle = async (): Promise<true | undefined> => {
      const all = pool.all();
      const isReady = all.length === WARM + claimed && all.every(({ state }) => state === "ready");
      return isReady ? true : undefined;
    };
    await waitFor(isIdle, { timeoutMs: 20_000, intervalMs: 1, what: "the pool to be as it should be" });
  }

  async function liveThroughTwoJobs(): Promise<void> {
    const pool = createPool(createJournal(root), createStandInSource());
    await pool.start([]);
    await untilIdle(pool, 0);
    await pool.claim("g", 1);
    const [id = ""] = pool.list("g").map((one) => one.id);
    promises.push({ at: recorder.operations.length, id, kept: true });
    await untilIdle(pool, 1);
    await pool.claim("g", 1);
    await untilIdle(pool, 2);
    promises.push({ at: recorder.operations.length, id, kept: false });
    await pool.release("g", [id]);
    await untilIdle(pool, 1);
    await pool.stop();
  }

  /** The next daemon; its host has been started again, so no machine lives. */
  async function assertGoesOn(stateDirectory: string, what: string, count: number): Promise<void> {
    const journal = createJournal(stateDirectory);
    const { records, unreadable } = await journal.load();
    assert.deepEqual(unreadable, [], `${what}: no record is broken`);
    const ids = records.map(({ id }) => id);
    assert.equal(new Set(ids).size, ids.length);
    const promise = promises.findLast(({ at }) => at <= count);
    const promised = records.find(({ id }) => id === promise?.id);
    if (promise?.kept) assert.equal(promised?.group, "g", `${what}: what was promised is known`);
    const pool = createPool(journal, createStandInSource());
    await pool.start(records);
    await waitFor(async () => (pool.list("g").length === 0 ? true : undefined), {
      timeoutMs: 20_000,
      intervalMs: 1,
      what: "the machines that are gone to be forgotten",
    });
    await untilIdle(pool, 0);
    await pool.clear(20_000);
    await pool.stop();
    assert.deepEqual((await journal.load()).records, [], what);
  }

  for (const remains of ["written", "synced"] as const) {
    test(`after each step, and only what was ${remains} is left, the next daemon goes on`, async () => {
      const { operations } = recorder;
      assert.ok(operations.length >= FEWEST_OPERATIONS, `${operations.length} operations`);
      for (let count = 0; count <= operations.length; count++) {
        const target = join(folder, `${remains}-${count}`);
        const last = operations[count - 1];
        await layOut(operations.slice(0, count), root, remains, target);
        await assertGoesOn(target, `after step ${count} (${last?.kind} ${last?.path})`, count);
        await rm(target, { recursive: true });
      }
    });
  }
});
