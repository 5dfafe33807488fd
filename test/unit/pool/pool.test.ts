import assert from "node:assert/strict";
import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, test } from "node:test";
import { sleep, waitFor } from "../../../src/host/wait.ts";
import { silentLogger } from "../../../src/log.ts";
import { newRecord } from "../../../src/pool/instance.ts";
import { createJournal, type Journal } from "../../../src/pool/journal.ts";
import { createLimiter } from "../../../src/pool/limiter.ts";
import { Pool } from "../../../src/pool/pool.ts";
import { createStandInSource, type StandInSource } from "../../helpers/stand-in-source.ts";

let stateDirectory: string;
let source: StandInSource;
let pools: Pool[] = [];

beforeEach(async () => {
  stateDirectory = await mkdtemp(join(tmpdir(), "pool-"));
  source = createStandInSource();
});

afterEach(async () => {
  for (const pool of pools) await pool.stop();
  pools = [];
  await rm(stateDirectory, { recursive: true });
});

async function startPool(
  options: { warm?: number; max?: number; creates?: number; journal?: Journal } = {},
): Promise<Pool> {
  const journal = options.journal ?? createJournal(stateDirectory);
  const pool = new Pool({
    name: "p",
    settings: {
      warmInstances: options.warm ?? 0,
      maxInstances: options.max ?? 10,
      maxIdleAgeMs: 0,
      heartbeatTimeoutMs: 0,
    },
    source,
    journal,
    limits: { creates: createLimiter(options.creates ?? 10), deletes: createLimiter(10) },
    logger: silentLogger,
  });
  pools.push(pool);
  await pool.start((await journal.load()).records);
  return pool;
}

const eventually = (what: string, condition: () => boolean | Promise<boolean>): Promise<true> =>
  waitFor(async () => ((await condition()) ? true : undefined), { timeoutMs: 20_000, intervalMs: 2, what });
const idle = (pool: Pool) => pool.all().filter((one) => one.state === "ready" && one.group === undefined);
const records = () => readdir(join(stateDirectory, "vms"));

describe("a pool", () => {
  test("keeps instances warm, gives them out at once, and replaces them", async () => {
    const pool = await startPool({ warm: 2 });
    await eventually("two warm instances", () => idle(pool).length === 2);
    const warm = idle(pool).map((one) => one.id);
    assert.deepEqual(await pool.claim("g", 2), { accepted: 2, reason: undefined });
    assert.deepEqual(
      pool.list("g").map((one) => [one.id, one.state]),
      warm.map((id) => [id, "ready"]),
    );
    await eventually("new warm instances", () => idle(pool).length === 2);
    assert.equal(source.machines.size, 4);
  });

  test("makes what it lacks and says how many it accepted", async () => {
    const pool = await startPool({ max: 3 });
    const claim = await pool.claim("g", 5);
    assert.equal(claim.accepted, 3);
    assert.match(claim.reason ?? "", /maximum of 3 instances/);
    await eventually(
      "three ready ones",
      () => pool.list("g").filter((one) => one.state === "ready").length === 3,
    );
    assert.deepEqual(await pool.claim("g", 0), { accepted: 0, reason: undefined });
  });

  test("says that an instance is ready only when its record says so on disk, also when it is claimed meanwhile", async () => {
    const pool = await startPool({ warm: 1 });
    const onDisk = async (id: string) =>
      JSON.parse(await readFile(join(stateDirectory, "vms", id, "record.json"), "utf8"));
    let [seen] = pool.all();
    for (let claimed = false; seen?.state !== "ready"; [seen] = pool.all()) {
      if (seen !== undefined && !claimed) claimed = (await pool.claim("g", 1)).accepted === 1;
      await new Promise(setImmediate);
    }
    const { state, group } = await onDisk(seen.id);
    assert.deepEqual([state, group], ["ready", "g"]);
  });

  test("deletes completely, twice if asked twice, and answers unknown ids as done", async () => {
    const pool = await startPool();
    await pool.claim("g", 1);
    await eventually("a ready one", () => pool.list("g")[0]?.state === "ready");
    const id = pool.list("g")[0]?.id ?? "";
    assert.deepEqual(await pool.release("g", [id, "unknown"]), [id, "unknown"]);
    assert.deepEqual(await pool.release("g", [id]), [id]);
    await eventually("nothing is left", () => pool.list("g").length === 0);
    assert.deepEqual(await pool.release("g", [id]), [id]);
    assert.deepEqual(await records(), []);
    assert.equal(source.machines.size, 0);
  });

  test("ends an instance while it is being made", async () => {
    source.bootMs = 60_000;
    const pool = await startPool();
    await pool.claim("g", 1);
    await eventually("it is being made", () => source.machines.size === 1);
    await pool.release(
      "g",
      pool.list("g").map((one) => one.id),
    );
    await eventually(
      "nothing is left",
      async () => source.machines.size === 0 && (await records()).length === 0,
    );
    assert.equal(pool.trouble, undefined);
  });

  test("keeps groups apart", async () => {
    const pool = await startPool({ warm: 1 });
    await pool.claim("g", 1);
    const id = pool.list("g")[0]?.id ?? "";
    assert.deepEqual(pool.list("other"), []);
    assert.throws(() => pool.connectInfo("other", id), /there is no instance/);
    await pool.release("other", [id]);
    assert.equal(pool.list("g").length, 1);
  });

  test("reports a failed creation, cleans up, and holds back further ones", async () => {
    source.failNext(1, "the image is missing");
    const pool = await startPool();
    await pool.claim("g", 1);
    // It is reported once and then forgotten.
    let told = "";
    await eventually("the failure is reported", () => {
      const failed = pool.list("g").find((one) => one.state === "failed");
      told = failed?.lastError ?? "";
      return failed !== undefined;
    });
    assert.match(told, /the image is missing/);
    await eventually("creation is held back", () => pool.trouble?.includes("the image is missing") ?? false);
    const waiting = await pool.claim("g", 1);
    assert.equal(waiting.accepted, 1);
    assert.match(waiting.reason ?? "", /the next try is in \d s: the image is missing/);
    await eventually("it was tried again", () => pool.list("g").every(({ state }) => state === "ready"));
    await eventually("all is well", () => pool.trouble === undefined);
    await pool.release(
      "g",
      pool.list("g").map((one) => one.id),
    );
    await eventually(
      "nothing is left",
      async () => pool.list("g").length === 0 && (await records()).length === 0,
    );
    assert.equal(source.machines.size, 0);
  });

  test("tries again when a deletion fails", async () => {
    const pool = await startPool();
    await pool.claim("g", 1);
    await eventually("a ready one", () => pool.list("g")[0]?.state === "ready");
    source.failNextDeletes(1);
    await pool.release(
      "g",
      pool.list("g").map((one) => one.id),
    );
    await eventually("nothing is left", async () => (await records()).length === 0);
  });

  test("replaces an instance that vanished", async () => {
    const pool = await startPool({ warm: 1 });
    await eventually("a warm one", () => idle(pool).length === 1);
    const first = idle(pool)[0]?.id ?? "";
    source.crash(first);
    await eventually("another one", () => idle(pool).some((one) => one.id !== first));
    await eventually("one record", async () => (await records()).length === 1);
  });

  test("replaces an idle instance whose disk failed, and tells the group of one that serves a job", async () => {
    const pool = await startPool({ warm: 1 });
    await eventually("one is warm", () => pool.all().some(({ state }) => state === "ready"));
    const [idle = ""] = source.machines;
    source.failDisk(idle);
    await eventually("it was replaced", () => source.machines.size === 1 && !source.machines.has(idle));
    await eventually("the new one is ready", () => pool.all().every(({ state }) => state === "ready"));
    await pool.claim("g", 1);
    const [job] = pool.list("g").map(({ id }) => id);
    pool.heartbeat("g", job ?? "");
    source.failDisk(job ?? "");
    assert.throws(() => pool.heartbeat("g", job ?? ""), /is ready: its disk failed/);
    assert.ok(source.machines.has(job ?? ""), "what the job has made may still be saved");
  });

  test("never makes more at once than the limit", async () => {
    source.bootMs = 20;
    const pool = await startPool({ creates: 2 });
    await pool.claim("g", 6);
    let most = 0;
    await eventually("all are ready", () => {
      most = Math.max(
        most,
        pool.list("g").filter((one) => one.phases.length > 0 && one.state === "creating").length,
      );
      return pool.list("g").every((one) => one.state === "ready");
    });
    assert.equal(most, 2);
  });

  test("takes over what an earlier daemon left", async () => {
    const first = await startPool({ warm: 1 });
    await eventually("a warm one", () => idle(first).length === 1);
    await first.claim("g", 1);
    await eventually("another warm one", () => idle(first).length === 1);
    await first.stop();
    const gone = idle(first)[0]?.id ?? "";
    const claimed = first.list("g").map((one) => one.id);
    source.crash(gone);

    const second = await startPool({ warm: 1 });
    assert.deepEqual(
      second.list("g").map((one) => [one.id, one.state]),
      claimed.map((id) => [id, "ready"]),
    );
    assert.equal(second.connectInfo("g", claimed[0] ?? "").privateKey, `key of ${claimed[0]}`);
    await eventually("a new warm one", () => idle(second).length === 1);
    assert.notEqual(idle(second)[0]?.id, gone);
  });

  test("ends no job because an instance can't be taken over, only what waits", async () => {
    const first = await startPool({ warm: 1 });
    await eventually("a warm one", () => idle(first).length === 1);
    await first.claim("g", 1);
    await eventually("another warm one", () => idle(first).length === 1);
    await first.stop();
    const [waiting, job] = [idle(first)[0]?.id ?? "", first.list("g")[0]?.id ?? ""];
    source.resume = async () => {
      throw new Error("nft is broken");
    };
    const second = await startPool({ warm: 1 });
    assert.deepEqual(
      second.list("g").map(({ id, state }) => [id, state]),
      [[job, "ready"]],
    );
    assert.throws(() => second.heartbeat("g", job), /could not be taken over: nft is broken/);
    await eventually("a new warm one", () => idle(second).some(({ id }) => id !== waiting));
    await second.release("g", [job]);
    await eventually("both are gone", () => !source.machines.has(job) && !source.machines.has(waiting));
  });

  test("rolls idle instances over to a new image, never below the warm count, and leaves claimed ones", async () => {
    const pool = await startPool({ warm: 3 });
    await eventually("three warm ones", () => idle(pool).length === 3);
    await pool.claim("g", 1);
    await eventually("three warm ones again", () => idle(pool).length === 3);
    const claimed = pool.list("g").map((one) => one.id);
    source.bootMs = 20;
    source.image = "second";
    let fewest = 3;
    let most = 0;
    await eventually("all idle ones are of the new image", () => {
      fewest = Math.min(fewest, idle(pool).length);
      most = Math.max(most, pool.all().filter((one) => one.group === undefined).length);
      return idle(pool).length === 3 && idle(pool).every((one) => one.data["image"] === "second");
    });
    assert.equal(fewest, 3);
    assert.ok(most <= 5, `${most} at a time: one more than the warm ones, and one that is being deleted`);
    assert.deepEqual(
      pool.list("g").map((one) => [one.id, one.state, one.data["image"]]),
      claimed.map((id) => [id, "ready", "first"]),
    );
  });

  test("rolls over at its maximum, too", async () => {
    const pool = await startPool({ warm: 2, max: 2 });
    await eventually("two warm ones", () => idle(pool).length === 2);
    source.image = "second";
    let fewest = 2;
    await eventually("all idle ones are of the new image", () => {
      fewest = Math.min(fewest, idle(pool).length);
      return idle(pool).length === 2 && idle(pool).every((one) => one.data["image"] === "second");
    });
    assert.ok(fewest >= 1);
  });

  test("makes nothing of a claim whose record can't be written, however often it plans meanwhile", async () => {
    const journal = createJournal(stateDirectory);
    let isFirst = true;
    const pool = await startPool({
      journal: {
        ...journal,
        write: async (record) => {
          if (!isFirst) return journal.write(record);
          isFirst = false;
          pool.hold(false);
          await sleep(50);
          throw new Error("no room on purpose");
        },
      },
    });
    assert.equal((await pool.claim("g", 1)).accepted, 0);
    assert.equal((await pool.claim("g", 1)).accepted, 1);
    await eventually("the other one", () => pool.list("g")[0]?.state === "ready");
    const ids = pool.all().map(({ id }) => id);
    assert.deepEqual([source.created, await records()], [ids, ids]);
  });

  test("leaves no record of what is ended at the moment when the last of it goes", async () => {
    const journal = createJournal(stateDirectory);
    await journal.write(newRecord("p", undefined, Date.now()));
    let end = (): Promise<void> => Promise.resolve();
    const ended = new Promise<void>((resolve) => {
      end = () => pool.clear(20_000).then(resolve);
    });
    const remove = (id: string): Promise<void> => {
      const removed = journal.remove(id);
      void end();
      return removed;
    };
    const pool = await startPool({ journal: { ...journal, remove } });
    await ended;
    await pool.stop();
    assert.deepEqual(await records(), []);
  });

  test("tears an instance down once, also when its record can't be removed", async () => {
    const journal = createJournal(stateDirectory);
    let failures = 2;
    const remove = async (id: string): Promise<void> => {
      if (failures-- > 0) throw new Error("stays on purpose");
      await journal.remove(id);
    };
    const torn: string[] = [];
    const tearDown = source.delete.bind(source);
    source.delete = (instance, signal) => {
      torn.push(instance.id);
      return tearDown(instance, signal);
    };
    const pool = await startPool({ journal: { ...journal, remove } });
    await pool.claim("g", 1);
    await eventually("it is ready", () => pool.list("g")[0]?.state === "ready");
    const [id = ""] = await records();
    await pool.release("g", [id]);
    await eventually("no record is left", async () => (await records()).length === 0);
    assert.deepEqual(torn, [id]);
  });

  test("is cleared until nothing is left", async () => {
    const pool = await startPool({ warm: 2 });
    await eventually("two warm ones", () => idle(pool).length === 2);
    await pool.claim("g", 1);
    await pool.clear(20_000);
    assert.equal(source.machines.size, 0);
    assert.deepEqual(await records(), []);
  });
});
