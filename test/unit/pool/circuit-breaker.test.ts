import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { CircuitBreaker } from "../../../src/pool/circuit-breaker.ts";

const JITTER = 0.2;

describe("the circuit breaker", () => {
  test("opens for a pause that grows with each round of failures, however many fail in one", () => {
    const breaker = new CircuitBreaker();
    for (const pauseMs of [1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000]) {
      const begunAt = performance.now();
      for (let number = 1; number <= 20; number++) breaker.fail(`failure ${number}`, begunAt);
      assert.ok(breaker.isOpen);
      assert.ok(breaker.retryInMs <= pauseMs * (1 + JITTER), `${breaker.retryInMs} ms, not ${pauseMs}`);
      assert.ok(breaker.retryInMs >= pauseMs * (1 - JITTER) - 500, `${breaker.retryInMs} ms, not ${pauseMs}`);
      assert.equal(breaker.lastError, "failure 20");
    }
  });

  test("closes with a success and begins anew", () => {
    const breaker = new CircuitBreaker();
    assert.equal(breaker.isOpen, false);
    const begunAt = performance.now();
    breaker.fail("first", begunAt);
    breaker.fail("second", performance.now());
    breaker.succeed();
    assert.deepEqual([breaker.isOpen, breaker.lastError, breaker.retryInMs], [false, undefined, 0]);
    // Begun before the last time that it opened, and yet the first to fail since then.
    breaker.fail("third", begunAt);
    assert.ok(breaker.isOpen);
    assert.ok(breaker.retryInMs <= 1_000 * (1 + JITTER));
  });
});
