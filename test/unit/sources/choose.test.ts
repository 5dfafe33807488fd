import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { choose, sharesOf } from "../../../src/sources/composite/choose.ts";

const free = { room: 1, share: 0, unclaimed: 0 };
const full = { ...free, room: 0 };

describe("which source makes the next instance", () => {
  test("what a runner asked for: the first with room", () => {
    assert.equal(choose([free, free], true), 0);
    assert.equal(choose([full, free], true), 1);
    assert.equal(
      choose(
        [
          { ...free, share: 0 },
          { ...free, share: 5 },
        ],
        true,
      ),
      0,
    );
  });
  test("a warm one: the first that lacks some of its share", () => {
    assert.equal(
      choose(
        [
          { ...free, share: 1, unclaimed: 1 },
          { ...free, share: 1 },
        ],
        false,
      ),
      1,
    );
    assert.equal(
      choose(
        [
          { ...free, share: 1 },
          { ...free, share: 1 },
        ],
        false,
      ),
      0,
    );
  });
  test("a warm one whose source has no room overflows", () => {
    assert.equal(choose([{ ...full, share: 2 }, free], false), 1);
  });
  test("none has room", () => assert.equal(choose([full, full], true), undefined));

  test("shares that were not named", () => {
    assert.deepEqual(sharesOf([undefined, undefined], 4), [4, 0]);
    assert.deepEqual(sharesOf([undefined, 1], 4), [3, 1]);
    assert.deepEqual(sharesOf([2, undefined, 1], 4), [2, 1, 1]);
    assert.deepEqual(sharesOf([3, 3], 4), [3, 3]);
  });
});
