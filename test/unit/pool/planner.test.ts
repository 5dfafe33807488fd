import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import { type Desired, type Observed, plan, type Step } from "../../../src/pool/planner.ts";

const instance = (overrides: Partial<Observed>): Observed => ({
  id: "a",
  state: "ready",
  claimed: false,
  createdAt: 0,
  busy: false,
  buried: false,
  ...overrides,
});

const kinds = (steps: readonly Step[]): string[] => steps.map((step) => step.kind);

describe("the planner", () => {
  test("fills an empty pool up to the warm count", () => {
    assert.deepEqual(kinds(plan({ warm: 2, max: 5, mayCreate: true }, [])), ["add", "add"]);
  });

  test("stays within the maximum, counting what is being deleted", () => {
    const observed = [
      instance({ id: "a", state: "deleting", busy: true }),
      instance({ id: "b", claimed: true }),
    ];
    assert.deepEqual(plan({ warm: 3, max: 3, mayCreate: true }, observed), [{ kind: "add" }]);
  });

  test("retires the oldest idle instances first, and never a claimed one", () => {
    const observed = [
      instance({ id: "new", createdAt: 2 }),
      instance({ id: "old", createdAt: 1 }),
      instance({ id: "claimed", createdAt: 0, claimed: true }),
    ];
    assert.deepEqual(plan({ warm: 1, max: 9, mayCreate: true }, observed), [{ kind: "retire", id: "old" }]);
  });

  test("makes what somebody waits for before what is only to be kept warm", () => {
    const observed = [
      instance({ id: "warm", state: "creating", createdAt: 1 }),
      instance({ id: "asked", state: "creating", claimed: true, createdAt: 2 }),
    ];
    assert.deepEqual(plan({ warm: 1, max: 9, mayCreate: true }, observed), [
      { kind: "create", id: "asked" },
      { kind: "create", id: "warm" },
    ]);
  });

  test("goes on deleting while creation is held back", () => {
    const observed = [instance({ id: "dead", state: "failed" }), instance({ id: "new", state: "creating" })];
    assert.deepEqual(plan({ warm: 3, max: 9, mayCreate: false }, observed), [{ kind: "delete", id: "dead" }]);
  });

  test("does nothing for an instance that a step is working on", () => {
    const busy = instance({ state: "deleting", busy: true });
    assert.deepEqual(plan({ warm: 0, max: 9, mayCreate: true }, [busy]), []);
  });

  test("converges from any state in a bounded number of rounds", () => {
    const states = fc.constantFrom("creating", "ready", "deleting", "failed");
    const pools = fc.array(fc.record({ state: states, claimed: fc.boolean() }), { maxLength: 30 });
    fc.assert(
      fc.property(pools, fc.nat(10), fc.nat(20), (start, warm, max) => {
        const desired: Desired = { warm, max, mayCreate: true };
        let pool = start.map((entry, index) => instance({ ...entry, id: `${index}`, createdAt: index }));
        let rounds = 0;
        for (let steps = plan(desired, pool); steps.length > 0; steps = plan(desired, pool)) {
          assert.ok(++rounds <= 6, `not settled after ${rounds} rounds`);
          pool = apply(steps, pool, rounds);
        }
        const idle = pool.filter((entry) => !entry.claimed && entry.state === "ready").length;
        const claimed = pool.filter((entry) => entry.claimed).length;
        assert.ok(idle <= warm || pool.length > max);
        assert.equal(
          pool.every((entry) => entry.state === "ready"),
          true,
        );
        assert.equal(idle >= Math.min(warm, Math.max(0, max - claimed)), true);
      }),
    );
  });
});

/** What the driver makes of steps when all of them succeed. */
function apply(steps: readonly Step[], pool: readonly Observed[], round: number): Observed[] {
  const of = (kind: Step["kind"], id: string) =>
    steps.some((step) => step.kind === kind && "id" in step && step.id === id);
  const next = pool
    .filter((entry) => !of("delete", entry.id))
    .map((entry): Observed => {
      if (of("create", entry.id)) return { ...entry, state: "ready" };
      return of("retire", entry.id) ? { ...entry, state: "deleting" } : entry;
    });
  const added = steps.filter((step) => step.kind === "add");
  return [
    ...next,
    ...added.map((_, index) =>
      instance({ id: `r${round}-${index}`, state: "creating", createdAt: round * 1000 + index }),
    ),
  ];
}
