import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, test } from "node:test";
import type { DaemonEvent } from "../../../src/events.ts";
import { waitFor } from "../../../src/host/wait.ts";
import { silentLogger } from "../../../src/log.ts";
import type { InstanceRecord } from "../../../src/pool/instance.ts";
import { createJournal, type Journal } from "../../../src/pool/journal.ts";
import { createLimiter } from "../../../src/pool/limiter.ts";
import { Pool } from "../../../src/pool/pool.ts";
import { createStandInSource, type StandInSource } from "../../helpers/stand-in-source.ts";

const LONG_MS = 60_000;

let stateDirectory: string;
let source: StandInSource;
let events: DaemonEvent[];
let pool: Pool;
let journal: Journal;

beforeEach(async () => {
  stateDirectory = await mkdtemp(join(tmpdir(), "pool-"));
  source = createStandInSource();
  source.idles = "paused";
  events = [];
});

afterEach(async () => {
  await pool.stop();
  await rm(stateDirectory, { recursive: true });
});

async function start({ warm = 1, heartbeatTimeoutMs = 0 } = {}): Promise<void> {
  journal = createJournal(stateDirectory);
  pool = new Pool({
    name: "p",
    settings: { warmInstances: warm, maxInstances: 10, maxIdleAgeMs: 0, heartbeatTimeoutMs },
    source,
    journal,
    limits: { creates: createLimiter(10), deletes: createLimiter(10) },
    logger: silentLogger,
    events: (event) => events.push(event),
  });
  await pool.start((await journal.load()).records);
}

const eventually = (what: string, condition: () => boolean | Promise<boolean>): Promise<true> =>
  waitFor(async () => ((await condition()) ? true : undefined), { timeoutMs: 20_000, intervalMs: 2, what });
const stored = async (): Promise<InstanceRecord[]> => (await journal.load()).records;
const untilOneRests = () => eventually("one that rests", () => events.some(({ kind }) => kind === "rested"));
const claimed = () => pool.list("g")[0];

describe("instances that rest while they are idle", () => {
  test("do so once, are warm, and their records say so", async () => {
    await start();
    await untilOneRests();
    const [warm] = pool.all();
    assert.deepEqual([warm?.state, warm?.resting, source.resting.size], ["ready", true, 1]);
    assert.equal((await stored())[0]?.resting, true);
    pool.configure({ ...pool.settings });
    await eventually("another plan", () => pool.condition.plans > 3);
    assert.equal(events.filter(({ kind }) => kind === "rested").length, 1);
  });

  test("are claimed at once, but nobody logs in before they are awake", async () => {
    await start();
    await untilOneRests();
    source.wakeMs = LONG_MS;
    assert.deepEqual(await pool.claim("g", 1), { accepted: 1, reason: undefined });
    const id = claimed()?.id ?? "";
    assert.equal(claimed()?.state, "creating");
    assert.throws(() => pool.connectInfo("g", id), /being woken/);
    pool.heartbeat("g", id);
    assert.ok(events.some((event) => event.kind === "claimed" && event.from === "resting"));
    await pool.stop();
    // The next daemon finds it claimed and not yet awake.
    source.wakeMs = 1;
    await start({ warm: 0 });
    await eventually("it is awake", () => claimed()?.state === "ready");
    assert.equal(claimed()?.id, id);
    assert.equal(pool.connectInfo("g", id).address, "192.0.2.1");
    assert.ok(!source.resting.has(id));
    assert.equal((await stored()).find((record) => record.id === id)?.resting, undefined);
    assert.ok(events.some((event) => event.kind === "woken" && event.waitSeconds !== undefined));
  });

  test("rest on under the next daemon, and are woken if none are to rest any more", async () => {
    await start();
    await untilOneRests();
    const [id] = source.resting;
    await pool.stop();
    events = [];
    await start();
    await untilOneRests();
    assert.deepEqual([...source.resting], [id]);
    await pool.stop();
    source.idles = "running";
    await start();
    await eventually("it is awake", () => source.resting.size === 0);
    await eventually("its record says so", async () => (await stored())[0]?.resting === undefined);
    assert.equal(pool.all()[0]?.id, id);
  });

  test("come after those that are awake", async () => {
    source.idles = "running";
    await start({ warm: 2 });
    await eventually("two", () => pool.all().filter(({ state }) => state === "ready").length === 2);
    const [older, newer] = pool.all().sort((one, other) => one.createdAt - other.createdAt);
    source.rests = ({ machine }) => machine === older?.id;
    await untilOneRests();
    await pool.claim("g", 1);
    assert.equal(claimed()?.id, newer?.id);
  });

  test("that do not wake fail: their group is told, and they are removed", async () => {
    await start();
    await untilOneRests();
    source.failNextWakes(1);
    await pool.claim("g", 1);
    const id = claimed()?.id ?? "";
    await eventually("it has failed", () => claimed()?.state === "failed");
    await eventually("it is gone", () => pool.list("g").length === 0);
    assert.ok(!source.machines.has(id));
    const failure = events.find((event) => event.kind === "failed");
    assert.match(failure?.kind === "failed" ? failure.error : "", /could not be woken.*on purpose/);
    await eventually("another one in its place", () => source.resting.size === 1);
  });

  test("serve all the same if they can't be let rest, and that is tried again", async () => {
    source.failNextRests(1);
    await start();
    await eventually("a failure", () => events.some(({ kind }) => kind === "retry"));
    await untilOneRests();
    source.failNextRests(1_000);
    pool.configure({ ...pool.settings, warmInstances: 2 });
    await eventually("another failure", () => events.filter(({ kind }) => kind === "retry").length > 1);
    await pool.claim("g", 2);
    await eventually("both", () => pool.list("g").filter(({ state }) => state === "ready").length === 2);
  });

  test("are deleted as they are, and are not asked whether they live", async () => {
    let asked = 0;
    source.check = async () => {
      asked++;
      return undefined;
    };
    await start({ heartbeatTimeoutMs: 4 });
    await untilOneRests();
    asked = 0;
    const { plans } = pool.condition;
    await eventually("two seconds", () => pool.condition.plans > plans + 2);
    assert.equal(asked, 0);
    pool.configure({ ...pool.settings, warmInstances: 0 });
    await eventually("it is gone", () => pool.all().length === 0);
    assert.equal(source.machines.size, 0);
    assert.ok(!events.some(({ kind }) => kind === "woken"));
  });
});
