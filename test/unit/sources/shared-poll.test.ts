import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { FleetingdError } from "../../../src/errors.ts";
import { sleep } from "../../../src/host/wait.ts";
import { SharedPoll } from "../../../src/sources/remote/shared-poll.ts";

const INTERVAL_MS = 5;
const never = () => new AbortController().signal;

describe("a list that many wait for", () => {
  test("is read once for all of them, and not while nobody waits", async () => {
    let reads = 0;
    const poll = new SharedPoll(async () => ++reads, INTERVAL_MS);
    const found = await Promise.all(
      Array.from({ length: 50 }, () => poll.until((answer) => (answer >= 3 ? answer : undefined), never())),
    );
    assert.deepEqual(new Set(found), new Set([3]));
    await sleep(10 * INTERVAL_MS);
    assert.equal(reads, 3);
  });

  test("counts only if it was asked for after the one who waits came", async () => {
    let answer = "before";
    let release: () => void = () => undefined;
    const blocked = new Promise<void>((resolve) => {
      release = resolve;
    });
    let reads = 0;
    const poll = new SharedPoll(async () => {
      const seen = answer;
      if (++reads === 1) await blocked;
      return seen;
    }, INTERVAL_MS);
    const first = poll.until((it) => it, never());
    while (reads === 0) await sleep(1);
    const second = poll.until((it) => it, never());
    answer = "after";
    release();
    assert.equal(await first, "before");
    assert.equal(await second, "after");
  });

  test("is waited for while its server is away, and says so if that lasts", async () => {
    let isAway = true;
    const away = new FleetingdError("UNAVAILABLE", "it is away");
    const poll = new SharedPoll(async () => {
      if (isAway) throw away;
      return true;
    }, INTERVAL_MS);
    await assert.rejects(
      poll.until((it) => it, AbortSignal.timeout(10 * INTERVAL_MS)),
      (error) => error === away,
    );
    const waiting = poll.until((it) => it, never());
    await sleep(4 * INTERVAL_MS);
    isAway = false;
    assert.equal(await waiting, true);
  });

  test("fails all who wait if it can't be read at all", async () => {
    const poll = new SharedPoll<true>(async () => {
      throw new FleetingdError("PERMISSION", "revoked");
    }, INTERVAL_MS);
    const waiting = [1, 2].map(() =>
      assert.rejects(
        poll.until((it) => it, never()),
        /revoked/,
      ),
    );
    await Promise.all(waiting);
  });

  test("ends with what the one who waits throws, or when it is cancelled", async () => {
    const poll = new SharedPoll(async () => 1, INTERVAL_MS);
    const throwing = poll.until(() => {
      throw new Error("not this");
    }, never());
    await assert.rejects(throwing, /not this/);
    await assert.rejects(
      poll.until(() => undefined, AbortSignal.timeout(2 * INTERVAL_MS)),
      { code: "CANCELLED" },
    );
    await assert.rejects(
      poll.until(() => undefined, AbortSignal.abort()),
      { code: "CANCELLED" },
    );
  });
});
