/** What the web page makes of what it is told, without a browser. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { harmless } from "../../../src/api/text.ts";
import type { Distribution } from "../../../src/metrics/distributions.ts";
import { barsOf, summaryOf } from "../../../src/page/distribution.ts";
import { listed } from "../../../src/page/sorting.ts";
import { nextState } from "../../../src/page/state.ts";
import { verdictOf } from "../../../src/page/verdict.ts";
import { changeOf, pictureOf, toPageJson } from "../../../src/web/picture.ts";
import { madeUpDaemon } from "../../helpers/page-facts.ts";

const NOTHING = { distributions: { creation: [], claimWait: [] }, images: null };
const NO_NEWS = { events: [], starts: [] };

test("changes make of the first picture what the last one is", () => {
  const { status } = madeUpDaemon(6);
  const first = pictureOf({ status: structuredClone(status), ...NOTHING }, undefined, 1_000_000);
  status.instances.splice(1, 2);
  for (const one of status.instances) one.ageSeconds += 3;
  const [changed] = status.instances;
  if (changed !== undefined) Object.assign(changed, { group: "ci/other", state: "deleting" });
  const [pool] = status.pools;
  if (pool !== undefined) pool.draining = true;
  const last = pictureOf({ status, ...NOTHING }, first, 1_003_000);
  const change = changeOf(first, last);
  assert.deepEqual(Object.keys(change).sort(), ["at", "gone", "instances", "kind", "pools"]);
  const whole = { ...first, kind: "all" as const, instances: [...first.instances.values()], ...NO_NEWS };
  const state = nextState(nextState(undefined, whole), { ...change, ...NO_NEWS });
  assert.deepEqual(state, { ...last, ...NO_NEWS });
  assert.equal(nextState(undefined, { ...change, ...NO_NEWS }), undefined);
});

test("every text is one line that steers no terminal", () => {
  const text = "\u001b[1mbold\u001b[0m \u001b]0;title\u0007end\r\nsecond line";
  assert.equal(toPageJson({ a: [text] }), '{"a":["bold end …"]}');
  assert.equal(harmless("\u202eturned\u2069"), "turned");
  assert.equal(harmless("\u001b]8;;http://x\u001b\\link\u001b]8;;\u001b\\"), "link");
});

describe("the verdict", () => {
  const of = (more: Parameters<typeof madeUpDaemon>[1]) => verdictOf(madeUpDaemon(2, more).status.pools);
  const shortage = { warm: { desired: 2, actual: 1 }, why: "1 is being made: 1 in the phase boot." };

  test("is good, busy or bad, with a reason for each pool that is not as it should be", () => {
    assert.deepEqual(of({}), { level: "good", title: "All is as it should be", reasons: [] });
    assert.deepEqual(of(shortage), {
      level: "busy",
      title: "ci: VMs are on their way",
      reasons: [
        {
          pool: "ci",
          text: "1 of 2 warm VMs are ready, because 1 is being made: 1 in the phase boot.",
        },
      ],
    });
    const failing = of({ ...shortage, lastError: "no", retryInSeconds: 4 });
    assert.deepEqual([failing.level, failing.title], ["bad", "ci needs attention"]);
    assert.deepEqual(of({ lastError: "no", retryInSeconds: 4 }).reasons, [
      { pool: "ci", text: "no (next try in 4s)" },
    ]);
    assert.equal(of({ draining: true, why: "it is being drained" }).title, "ci being drained");
    assert.equal(verdictOf([]).title, "There is no pool");
  });
});

describe("the table", () => {
  const instances = madeUpDaemon(24).status.instances.map(({ ageSeconds, ...one }) => ({
    ...one,
    createdAt: -ageSeconds,
  }));
  const ids = (column: Parameters<typeof listed>[1]["column"], isReversed = false, filter = ""): string[] =>
    listed(instances, { column, isReversed }, filter).map(({ id }) => id);

  test("is sorted by any column, what may need somebody first", () => {
    const states = listed(instances, { column: "state", isReversed: false }, "").map(({ state }) => state);
    assert.deepEqual([...new Set(states)], ["creating", "deleting", "ready"]);
    assert.deepEqual(ids("age", true), ids("age").toReversed());
    const addresses = listed(instances, { column: "address", isReversed: false }, "in use");
    assert.deepEqual(
      addresses.slice(0, 3).map(({ address }) => address),
      ["172.16.0.2", "172.16.0.6", "172.16.0.14"],
    );
  });

  test("is filtered by any words", () => {
    assert.ok(
      listed(instances, { column: "state", isReversed: false }, "TEAM-1 in").every(
        (one) => one.group === "ci/team-1",
      ),
    );
    assert.equal(ids("state", false, "no such").length, 0);
  });
});

describe("a histogram", () => {
  const distribution = (counts: number[]): Distribution => ({
    pool: "ci",
    buckets: counts.map((count, index) => ({ upTo: index === 3 ? null : 10 ** index, count })),
    count: counts.reduce((sum, count) => sum + count, 0),
  });

  test("has the pools together, and nothing around what there is", () => {
    assert.deepEqual(barsOf([distribution([0, 0, 2, 0]), distribution([0, 0, 1, 1])]), [
      { upTo: 10, count: 0 },
      { upTo: 100, count: 3 },
      { upTo: null, count: 1 },
    ]);
    assert.deepEqual(barsOf([distribution([0, 0, 0, 0])]), []);
  });

  test("says how long half of them and nearly all took", () => {
    assert.deepEqual(summaryOf([distribution([6, 3, 0, 1])]), { count: 10, half: 1, most: null });
    assert.deepEqual(summaryOf([]), { count: 0, half: null, most: null });
  });
});
