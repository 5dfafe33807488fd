import assert from "node:assert/strict";
import { test } from "node:test";
import type { DaemonEvent } from "../../../src/events.ts";
import { SourceWatch } from "../../../src/pool/source-watch.ts";
import type { SourceStatus } from "../../../src/sources/source.ts";

test("what is told of a source is that it does otherwise than before, once", () => {
  const rack: SourceStatus = {
    name: "rack",
    type: "incus",
    state: "ok",
    problem: undefined,
    retryInMs: 0,
    instances: 0,
    maxInstances: 20,
    costPerHour: 1,
  };
  let all: SourceStatus[] = [{ ...rack, name: "local" }, rack];
  const events: DaemonEvent[] = [];
  const watch = new SourceWatch({
    name: "ci",
    source: { status: () => all },
    events: (event) => events.push(event),
  });
  const after = (change: Partial<SourceStatus>): DaemonEvent[] => {
    all = [
      { ...rack, name: "local" },
      { ...rack, ...change },
    ];
    for (let looks = 0; looks < 2; looks++) watch.tick();
    return events.splice(0);
  };
  const of = { kind: "source", pool: "ci", source: "rack" };
  assert.deepEqual(after({}), []);
  assert.deepEqual(after({ state: "failing", problem: "it is away", retryInMs: 2_000 }), [
    { ...of, state: "failing", problem: "it is away", retryInSeconds: 2 },
  ]);
  assert.deepEqual(after({ state: "full", problem: "it has 20" }), [
    { ...of, state: "full", problem: "it has 20" },
  ]);
  assert.deepEqual(after({}), [{ ...of, state: "ok" }]);
});
