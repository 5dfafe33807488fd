import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { ImageRefresher, type RefreshedPool, refreshIn } from "../../../src/daemon/image-refresher.ts";
import type { GoldenImage } from "../../../src/images/image.ts";
import { silentLogger } from "../../../src/log.ts";
import type { RefreshOptions } from "../../../src/sources/local/golden-images.ts";

const HOUR_MS = 3_600_000;
const NOW = Date.parse("2026-01-02T00:00:00Z");

interface StandIn extends RefreshedPool {
  asked: Pick<RefreshOptions, "force" | "maxAgeMs">[];
  failure: Error | undefined;
  /** Called while a refresh is under way. */
  meanwhile(): void;
}

function standIn(
  ageMs: number | undefined,
  options: { name?: string; inUse?: boolean; intervalMs?: number } = {},
): StandIn {
  let current = ageMs === undefined ? undefined : image(ageMs);
  const one: StandIn = {
    asked: [],
    failure: undefined,
    meanwhile: () => undefined,
    config: { prebuildIntervalMs: options.intervalMs ?? 24 * HOUR_MS },
    pool: { name: options.name ?? "p", isInUse: options.inUse ?? true },
    images: {
      get status() {
        return {
          current,
          baseName: undefined,
          state: "done" as const,
          step: undefined,
          lastError: undefined,
          timings: undefined,
        };
      },
      async refresh({ force, maxAgeMs }) {
        one.asked.push({ force, ...(maxAgeMs === undefined ? {} : { maxAgeMs }) });
        await Promise.resolve();
        one.meanwhile();
        if (one.failure !== undefined) throw one.failure;
        current = image(0);
        return current;
      },
    },
  };
  return one;
}

const image = (ageMs: number): GoldenImage => ({ createdAt: new Date(Date.now() - ageMs) }) as GoldenImage;

const refresher = (pools: RefreshedPool[], afterwards = () => Promise.resolve()) =>
  new ImageRefresher(() => pools, afterwards, silentLogger);

describe("when a golden image is renewed", () => {
  const facts = { inUse: true, madeAt: NOW - 10 * HOUR_MS, intervalMs: 24 * HOUR_MS };

  test("when it is as old as the interval", () => {
    assert.equal(refreshIn(facts, NOW), 14 * HOUR_MS);
    assert.equal(refreshIn(facts, NOW + 14 * HOUR_MS), 0);
    assert.equal(refreshIn(facts, NOW + 99 * HOUR_MS), 0);
  });

  test("never, if the interval is 0 or the pool makes no VMs", () => {
    assert.equal(refreshIn({ ...facts, intervalMs: 0 }, NOW + 99 * HOUR_MS), undefined);
    assert.equal(refreshIn({ ...facts, inUse: false }, NOW + 99 * HOUR_MS), undefined);
  });

  test("at once, if a pool that makes VMs has none", () => {
    assert.equal(refreshIn({ ...facts, madeAt: undefined, intervalMs: 0 }, NOW), 0);
    assert.equal(refreshIn({ ...facts, madeAt: undefined, inUse: false }, NOW), undefined);
  });
});

describe("the image refresher", () => {
  test("asks for a new image where the old one is too old, and only there", async () => {
    const pools = [standIn(25 * HOUR_MS), standIn(HOUR_MS), standIn(25 * HOUR_MS, { inUse: false })];
    let collected = 0;
    const renewing = refresher(pools, async () => void collected++);
    await renewing.check();
    await renewing.check();
    const wanted = { force: false, maxAgeMs: 24 * HOUR_MS };
    assert.deepEqual(
      pools.map(({ asked }) => asked),
      [[wanted], [], []],
    );
    assert.equal(collected, 1);
  });

  test("makes one at a time", async () => {
    const pools = [standIn(25 * HOUR_MS), standIn(25 * HOUR_MS)];
    let done = 0;
    for (const [index, one] of pools.entries()) {
      one.meanwhile = () => {
        assert.equal(pools[1]?.asked.length, index);
        done++;
      };
    }
    const renewing = refresher(pools);
    await Promise.all([renewing.check(), renewing.check()]);
    assert.equal(done, 2);
  });

  test("waits after a failure, and says until when", async () => {
    const one = standIn(25 * HOUR_MS);
    one.failure = new Error("no network");
    const renewing = refresher([one]);
    await renewing.check();
    await renewing.check();
    assert.equal(one.asked.length, 1);
    const nextInMs = renewing.nextIn(one) ?? 0;
    assert.ok(nextInMs > 3 * 60_000 && nextInMs <= 6 * 60_000, `${nextInMs} ms`);
  });

  test("a failure of one pool holds back no other", async () => {
    const pools = ["a", "b"].map((name) => standIn(25 * HOUR_MS, { name }));
    if (pools[0] !== undefined) pools[0].failure = new Error("no network");
    await refresher(pools).check();
    assert.deepEqual(
      pools.map(({ asked }) => asked.length),
      [1, 1],
    );
  });
});
