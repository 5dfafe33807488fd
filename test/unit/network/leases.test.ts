import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import { createLeases } from "../../../src/network/leases.ts";
import { parseVmSubnet } from "../../../src/network/slots.ts";

describe("leases", () => {
  test("gives out every slot once and then says that all are in use", () => {
    const leases = createLeases(parseVmSubnet("172.16.120.0/28"));
    const slots = [1, 2, 3, 4].map(() => leases.acquire().slot);
    assert.deepEqual(slots, [0, 1, 2, 3]);
    assert.equal(leases.inUse, leases.capacity);
    assert.throws(() => leases.acquire(), {
      code: "EXHAUSTED",
      message: "all 4 networks of the VM subnet 172.16.120.0/28 are in use",
    });
  });

  test("reuses the slot that has been free for the longest time", () => {
    const leases = createLeases(parseVmSubnet("172.16.120.0/28"));
    for (let i = 0; i < 3; i += 1) leases.acquire();
    leases.release(2);
    leases.release(0);
    assert.deepEqual(
      [leases.acquire(), leases.acquire(), leases.acquire()].map(({ slot }) => slot),
      [3, 2, 0],
    );
  });

  test("takes a certain slot for an adopted VM, once", () => {
    const leases = createLeases(parseVmSubnet("172.16.120.0/28"));
    assert.equal(leases.acquireSlot(1).address, "172.16.120.6");
    assert.throws(() => leases.acquireSlot(1), { code: "ALREADY_EXISTS" });
    assert.throws(() => leases.acquireSlot(4), { code: "INVALID_ARGUMENT" });
    assert.equal(leases.inUse, 1);
    leases.release(1);
    leases.release(1);
    leases.release(4_000);
    assert.equal(leases.inUse, 0);
    assert.deepEqual(
      [0, 1, 2, 3].map(() => leases.acquire().slot),
      [0, 2, 3, 1],
    );
  });

  test("hands out of a /8 without keeping a list of its four million slots", () => {
    const leases = createLeases(parseVmSubnet("10.0.0.0/8"));
    const names = new Set(Array.from({ length: 4_000 }, () => leases.acquire().tapName));
    assert.equal(names.size, 4_000);
  });

  test("never leases a slot twice, and loses none", () => {
    const step = fc.oneof(
      fc.constant({ do: "acquire" } as const),
      fc.record({ do: fc.constantFrom("take", "release"), slot: fc.nat(7) }),
    );
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
        const leases = createLeases(parseVmSubnet("172.16.120.0/27"));
        const held = new Set<number>();
        for (const action of steps) {
          if (action.do === "acquire") {
            if (held.size === leases.capacity) assert.throws(() => leases.acquire(), { code: "EXHAUSTED" });
            else {
              const { slot } = leases.acquire();
              assert.ok(!held.has(slot));
              held.add(slot);
            }
          } else if (action.do === "release") {
            leases.release(action.slot);
            held.delete(action.slot);
          } else if (held.has(action.slot)) {
            assert.throws(() => leases.acquireSlot(action.slot), { code: "ALREADY_EXISTS" });
          } else {
            held.add(leases.acquireSlot(action.slot).slot);
          }
          assert.equal(leases.inUse, held.size);
        }
      }),
    );
  });
});
