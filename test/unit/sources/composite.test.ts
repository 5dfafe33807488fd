/** A pool with this host, which is a stand-in, and a cloud, which is another one. */
import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, test } from "node:test";
import { FleetingdError } from "../../../src/errors.ts";
import { waitFor } from "../../../src/host/wait.ts";
import { silentLogger } from "../../../src/log.ts";
import { createJournal } from "../../../src/pool/journal.ts";
import { createLimiter } from "../../../src/pool/limiter.ts";
import { Pool } from "../../../src/pool/pool.ts";
import { CompositeSource } from "../../../src/sources/composite/composite.ts";
import { RemoteSource } from "../../../src/sources/remote/remote-source.ts";
import { LOCAL, sourceOf } from "../../../src/sources/source.ts";
import { createStandInServer, type StandInServer } from "../../helpers/stand-in-cloud.ts";
import { createStandInSource, type StandInSource } from "../../helpers/stand-in-source.ts";

let stateDirectory: string;
let host: StandInSource;
let cloud: StandInServer;
let pools: Pool[] = [];

beforeEach(async () => {
  stateDirectory = await mkdtemp(join(tmpdir(), "composite-"));
  host = createStandInSource(LOCAL);
  cloud = createStandInServer();
});
afterEach(async () => {
  for (const pool of pools) await pool.stop();
  pools = [];
  await rm(stateDirectory, { recursive: true });
});

interface Wanted {
  warm?: number;
  max?: number;
  hostMax?: number;
  cloudMax?: number;
  cloudWarm?: number;
}

async function startPool({
  warm = 0,
  max = 20,
  hostMax,
  cloudMax = 10,
  cloudWarm,
}: Wanted = {}): Promise<Pool> {
  const journal = createJournal(stateDirectory);
  const limits = () => ({ creates: createLimiter(4), deletes: createLimiter(4) });
  const remote = new RemoteSource({
    name: "rack",
    type: "stand-in",
    owner: { daemon: "d", pool: "p" },
    cloud: cloud.connect(),
    config: {
      maxInstances: cloudMax,
      maxConcurrentCreates: 4,
      maxConcurrentDeletes: 4,
      requestTimeoutMs: 15_000,
      createTimeoutMs: 60_000,
      deleteTimeoutMs: 60_000,
      pollIntervalMs: 20,
      missedPolls: 2,
      costPerHour: 1,
      username: undefined,
      sshKeyPath: undefined,
    },
    logger: silentLogger,
    untilReady: async () => undefined,
  });
  const source = new CompositeSource({
    parts: [
      {
        source: host,
        type: LOCAL,
        limits: limits(),
        maxInstances: hostMax,
        warmInstances: undefined,
        costPerHour: 0,
      },
      {
        source: remote,
        type: "stand-in",
        limits: limits(),
        maxInstances: cloudMax,
        warmInstances: cloudWarm,
        costPerHour: 1,
      },
    ],
    warmInstances: () => pool.settings.warmInstances,
    logger: silentLogger,
  });
  const many = Number.MAX_SAFE_INTEGER;
  const pool: Pool = new Pool({
    name: "p",
    settings: { warmInstances: warm, maxInstances: max, maxIdleAgeMs: 0, heartbeatTimeoutMs: 0 },
    source,
    journal,
    limits: { creates: createLimiter(many), deletes: createLimiter(many) },
    logger: silentLogger,
  });
  pools.push(pool);
  await pool.start((await journal.load()).records);
  return pool;
}

const eventually = (what: string, condition: () => boolean): Promise<true> =>
  waitFor(async () => (condition() ? true : undefined), { timeoutMs: 30_000, intervalMs: 5, what });
const ready = (pool: Pool) => pool.all().filter(({ state }) => state === "ready");
const readyAt = (pool: Pool, name: string) => ready(pool).filter(({ data }) => sourceOf(data) === name);
const stateOf = (pool: Pool, name: string) => pool.sources.find((source) => source.name === name)?.state;

describe("a pool with several sources", () => {
  test("overflows from the first to the next, up to the maximum of each; the runner sees one group", async () => {
    const pool = await startPool({ hostMax: 3, cloudMax: 4 });
    await pool.claim("g", 7);
    await eventually("seven to be ready", () => ready(pool).length === 7);
    assert.deepEqual([host.machines.size, cloud.machines.size], [3, 4]);
    assert.equal(pool.list("g").filter(({ state }) => state === "ready").length, 7);
    // What room there is is asked again and again, not at each claim.
    await eventually("the shortage to be known", () => pool.condition.shortage !== undefined);
    const again = await pool.claim("g", 1);
    assert.equal(again.accepted, 0);
    assert.match(again.reason ?? "", /local: it is at its maximum of 3 instances; rack: /);
  });

  test("keeps each source's share of warm instances", async () => {
    const pool = await startPool({ warm: 4, cloudWarm: 1 });
    await eventually("four warm ones", () => ready(pool).length === 4);
    assert.deepEqual([readyAt(pool, LOCAL).length, readyAt(pool, "rack").length], [3, 1]);
    // The cheap ones are given out first, and come back where they were.
    await pool.claim("g", 2);
    assert.ok(pool.list("g").every(({ data }) => sourceOf(data) === LOCAL));
    await eventually("four warm ones again", () => ready(pool).length === 6);
    assert.deepEqual([readyAt(pool, LOCAL).length, readyAt(pool, "rack").length], [5, 1]);
  });

  test("ends the dearest first when fewer are wanted", async () => {
    const pool = await startPool({ warm: 6, hostMax: 3 });
    await eventually("six warm ones", () => ready(pool).length === 6);
    assert.equal(readyAt(pool, "rack").length, 3);
    pool.configure({ ...pool.settings, warmInstances: 3 });
    await eventually("three warm ones", () => pool.all().length === 3);
    assert.deepEqual([readyAt(pool, LOCAL).length, readyAt(pool, "rack").length], [3, 0]);
  });

  test("passes over a source that fails within the same creation, and leaves nothing there", async () => {
    const pool = await startPool();
    host.failNext(1, "no KVM today");
    await pool.claim("g", 1);
    await eventually("one to be ready", () => ready(pool).length === 1);
    assert.deepEqual([host.machines.size, cloud.machines.size], [0, 1]);
    assert.equal(stateOf(pool, LOCAL), "failing");
    assert.deepEqual(
      pool.list("g").map(({ state, data }) => [state, sourceOf(data)]),
      [["ready", "rack"]],
    );
  });

  test("asks a source that has failed again by itself", async () => {
    const pool = await startPool({ hostMax: 1 });
    cloud.failure = new FleetingdError("UNAVAILABLE", "the rack is away");
    await eventually("the failure to be seen", () => stateOf(pool, "rack") === "failing");
    await pool.claim("g", 2);
    await eventually("one to be ready", () => ready(pool).length === 1);
    assert.deepEqual([host.machines.size, cloud.machines.size], [1, 0]);
    cloud.failure = undefined;
    await eventually("the rack to be back", () => stateOf(pool, "rack") === "ok");
    await waitFor(async () => ((await pool.claim("g", 1)).accepted === 1 ? true : undefined), {
      timeoutMs: 30_000,
      intervalMs: 100,
      what: "the pool to have room again",
    });
    await eventually("one at the rack", () => cloud.machines.size >= 1);
  });

  test("a restarted daemon finds both, and no instance is lost or double", async () => {
    const first = await startPool({ hostMax: 2 });
    await first.claim("g", 5);
    await eventually("five to be ready", () => ready(first).length === 5);
    const before = first.list("g").map(({ id, data }) => [id, sourceOf(data)]);
    await first.stop();
    const second = await startPool({ hostMax: 2 });
    assert.deepEqual(
      second
        .list("g")
        .map(({ id, data }) => [id, sourceOf(data)])
        .toSorted(),
      before.toSorted(),
    );
    await second.release(
      "g",
      before.map(([id]) => id ?? ""),
    );
    await eventually("all to be gone", () => second.all().length === 0);
    assert.deepEqual([host.machines.size, cloud.machines.size], [0, 0]);
  });

  test("what one source has begun and can't remove is not made at another one", async () => {
    const pool = await startPool();
    host.failNext(1, "it broke");
    host.failNextDeletes(2);
    await pool.claim("g", 1);
    await eventually("the failure", () => pool.all().some(({ state }) => state === "failed"));
    await eventually("it to be removed", () => host.machines.size === 0);
    assert.equal(cloud.machines.size, 0);
  });
});
