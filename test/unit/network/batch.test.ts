import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { createBatcher, createTurns } from "../../../src/network/batch.ts";

describe("createBatcher", () => {
  test("does together what is asked for together, in order, and no more than it may", async () => {
    const batches: (readonly number[])[] = [];
    const add = createBatcher<number>(async (items) => void batches.push(items), 3);
    await Promise.all([1, 2, 3, 4].map(add));
    await add(5);
    assert.deepEqual(batches, [[1, 2, 3], [4], [5]]);
  });

  test("runs one batch at a time; what comes meanwhile is the next", async () => {
    const batches: (readonly number[])[] = [];
    const gate = deferred();
    const add = createBatcher<number>(async (items) => {
      batches.push(items);
      if (batches.length === 1) await gate.promise;
    }, 10);
    const first = add(1);
    while (batches.length === 0) await new Promise((resolve) => setImmediate(resolve));
    const others = [add(2), add(3)];
    gate.resolve(undefined);
    await Promise.all([first, ...others]);
    assert.deepEqual(batches, [[1], [2, 3]]);
  });

  test("fails only the bad item of a batch", async () => {
    const add = createBatcher<number>(async (items) => {
      if (items.includes(2)) throw new Error("two");
    }, 10);
    const outcomes = await Promise.allSettled([1, 2, 3].map(add));
    assert.deepEqual(
      outcomes.map(({ status }) => status),
      ["fulfilled", "rejected", "fulfilled"],
    );
    await add(4);
  });
});

test("createTurns keeps the order of one key, lets others pass, and survives a failure", async () => {
  const inTurn = createTurns();
  const log: string[] = [];
  const gate = deferred();
  const first = inTurn("a", async () => {
    await gate.promise;
    log.push("a1");
    throw new Error("a1 failed");
  });
  const second = inTurn("a", async () => void log.push("a2"));
  await inTurn("b", async () => void log.push("b"));
  gate.resolve(undefined);
  await assert.rejects(first, /a1 failed/);
  await second;
  assert.deepEqual(log, ["b", "a1", "a2"]);
});

function deferred(): { promise: Promise<unknown>; resolve: (value: unknown) => void } {
  let resolve: (value: unknown) => void = () => assert.fail("not ready");
  const promise = new Promise<unknown>((settle) => {
    resolve = settle;
  });
  return { promise, resolve };
}
