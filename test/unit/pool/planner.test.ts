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
  outdated: false,
  buried: false,
  ...overrides,
});

const kinds = (steps: readonly Step[]): string[] => steps.map((step) => step.kind);

describe("the planner", () => {
  test("fills an empty pool up to the warm count", () => {
    assert.deepEqual(kinds(plan({ warm: 2, max: 5, mayMakeRoom: true, mayCreate: true }, [])), [
      "add",
      "add",
    ]);
  });

  test("stays within the maximum, counting what is being deleted", () => {
    const observed = [
      instance({ id: "a", state: "deleting", busy: true }),
      instance({ id: "b", claimed: true }),
    ];
    assert.deepEqual(plan({ warm: 3, max: 3, mayMakeRoom: true, mayCreate: true }, observed), [
      { kind: "add" },
    ]);
  });

  test("retires the oldest idle instances first, and never a claimed one", () => {
    const observed = [
      instance({ id: "new", createdAt: 2 }),
      instance({ id: "old", createdAt: 1 }),
      instance({ id: "claimed", createdAt: 0, claimed: true }),
    ];
    assert.deepEqual(plan({ warm: 1, max: 9, mayMakeRoom: true, mayCreate: true }, observed), [
      { kind: "retire", id: "old" },
    ]);
  });

  test("makes what somebody waits for before what is only to be kept warm", () => {
    const observed = [
      instance({ id: "warm", state: "creating", createdAt: 1 }),
      instance({ id: "asked", state: "creating", claimed: true, createdAt: 2 }),
    ];
    assert.deepEqual(plan({ warm: 1, max: 9, mayMakeRoom: true, mayCreate: true }, observed), [
      { kind: "create", id: "asked" },
      { kind: "create", id: "warm" },
    ]);
  });

  test("goes on deleting while creation is held back", () => {
    const observed = [instance({ id: "dead", state: "failed" }), instance({ id: "new", state: "creating" })];
    assert.deepEqual(plan({ warm: 3, max: 9, mayMakeRoom: true, mayCreate: false }, observed), [
      { kind: "delete", id: "dead" },
    ]);
  });

  test("does nothing for an instance that a step is working on", () => {
    const busy = instance({ state: "deleting", busy: true });
    assert.deepEqual(plan({ warm: 0, max: 9, mayMakeRoom: true, mayCreate: true }, [busy]), []);
  });

  test("ends no idle instance before the one that replaces it is ready", () => {
    const observed = [instance({ id: "old", outdated: true }), instance({ id: "new", state: "creating" })];
    assert.deepEqual(kinds(plan({ warm: 1, max: 9, mayMakeRoom: true, mayCreate: true }, observed)), [
      "create",
    ]);
  });

  test("rolls idle instances over one by one, with one more beside them", () => {
    const olds = ["a", "b", "c"].map((id, createdAt) => instance({ id, createdAt, outdated: true }));
    const desired = { warm: 3, max: 9, mayMakeRoom: true, mayCreate: true };
    assert.deepEqual(plan(desired, olds), [{ kind: "add" }]);
    assert.deepEqual(plan(desired, [...olds, instance({ id: "new", createdAt: 9 })]), [
      { kind: "retire", id: "a" },
    ]);
  });

  test("makes room for a new one by ending an outdated one where the maximum is reached", () => {
    const olds = ["a", "b"].map((id, createdAt) => instance({ id, createdAt, outdated: true }));
    const claimed = instance({ id: "job", claimed: true, outdated: true });
    const desired = { warm: 2, max: 3, mayMakeRoom: true, mayCreate: true };
    assert.deepEqual(plan(desired, [...olds, claimed]), [{ kind: "retire", id: "a" }]);
    const ending = instance({ id: "a", state: "deleting", outdated: true, busy: true });
    assert.deepEqual(plan(desired, [ending, ...olds.slice(1), claimed]), []);
  });

  test("keeps outdated instances while the host itself is short of room", () => {
    const desired = { warm: 1, max: 1, mayMakeRoom: false, mayCreate: true };
    assert.deepEqual(plan(desired, [instance({ outdated: true })]), []);
  });

  test("keeps outdated instances while creation is held back", () => {
    const olds = [instance({ outdated: true })];
    assert.deepEqual(plan({ warm: 1, max: 1, mayMakeRoom: true, mayCreate: false }, olds), []);
    assert.deepEqual(plan({ warm: 1, max: 9, mayMakeRoom: true, mayCreate: false }, olds), []);
  });

  test("converges from any state in a bounded number of rounds, and stays warm meanwhile", () => {
    const states = fc.constantFrom("creating", "ready", "deleting", "failed");
    const entry = fc.record({ state: states, claimed: fc.boolean(), outdated: fc.boolean() });
    const pools = fc.array(entry, { maxLength: 30 });
    fc.assert(
      fc.property(pools, fc.nat(10), fc.nat(20), (start, warm, max) => {
        const desired: Desired = { warm, max, mayMakeRoom: true, mayCreate: true };
        let pool = start.map((fields, index) => instance({ ...fields, id: `${index}`, createdAt: index }));
        const mostRounds = 6 + 4 * pool.length;
        let rounds = 0;
        for (let steps = plan(desired, pool); steps.length > 0; steps = plan(desired, pool)) {
          assert.ok(++rounds <= mostRounds, `not settled after ${rounds} rounds`);
          const next = apply(steps, pool, rounds);
          const hadRoom = pool.length < max;
          if (hadRoom) assert.ok(idle(next).length >= Math.min(warm, idle(pool).length), "it stays warm");
          assert.ok(idle(next).length >= Math.min(warm, idle(pool).length) - 1, "one by one");
          assert.ok(next.length <= Math.max(max, pool.length), "the maximum holds");
          pool = next;
        }
        const claimed = pool.filter((one) => one.claimed).length;
        assert.ok(idle(pool).length <= warm);
        assert.ok(pool.every((one) => one.state === "ready"));
        assert.ok(idle(pool).every((one) => !one.outdated));
        assert.ok(idle(pool).length >= Math.min(warm, Math.max(0, max - claimed)));
      }),
    );
  });

  test("never touches what is claimed, unless it failed or its end was asked for", () => {
    const states = fc.constantFrom("creating", "ready");
    const entry = fc.record({
      state: states,
      claimed: fc.boolean(),
      outdated: fc.boolean(),
      busy: fc.boolean(),
    });
    fc.assert(
      fc.property(
        fc.array(entry, { maxLength: 12 }),
        fc.nat(6),
        fc.nat(12),
        fc.boolean(),
        fc.boolean(),
        (start, warm, max, mayMakeRoom, mayCreate) => {
          const pool = start.map((fields, index) =>
            instance({ ...fields, id: `${index}`, createdAt: index }),
          );
          for (const step of plan({ warm, max, mayMakeRoom, mayCreate }, pool)) {
            if (step.kind !== "retire" && step.kind !== "delete") continue;
            assert.equal(pool.find(({ id }) => id === step.id)?.claimed, false);
            assert.ok(mayMakeRoom || idle(pool).length > warm, "none of the warm ones ends for nothing");
          }
        },
      ),
    );
  });
});

const idle = (pool: readonly Observed[]): Observed[] =>
  pool.filter((one) => !one.claimed && one.state === "ready");

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
