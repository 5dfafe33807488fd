import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { checkGroups, isTapGroup, policyGroup } from "../../../src/network/tap-groups.ts";

describe("link groups of TAPs", () => {
  test("follow from the policy's name, are ours, and nobody's who numbers from zero", () => {
    assert.equal(policyGroup("ci"), policyGroup("ci"));
    assert.notEqual(policyGroup("ci"), policyGroup("_any"));
    for (const name of ["ci", "_any", "a-32-characters-long-name-of-pool"]) {
      assert.ok(isTapGroup(policyGroup(name)), name);
      assert.match(policyGroup(name).toString(16), /^46[0-9a-f]{6}$/);
    }
    for (const group of [0, 1, 0x45ffffff, 0x47000000, 0x666c7472]) assert.equal(isTapGroup(group), false);
    for (const earlier of [0x666c7470, 0x666c7471]) assert.ok(isTapGroup(earlier));
  });

  test("two pools of one number are refused by their names", () => {
    const seen = new Map<number, string>();
    for (let index = 0; ; index++) {
      const name = `pool-${index}`;
      const twin = seen.get(policyGroup(name));
      if (twin !== undefined) {
        checkGroups(["ci", name]);
        const message = new RegExp(`${twin} and ${name} can't be on the same host`);
        assert.throws(() => checkGroups([twin, "ci", name]), { code: "INVALID_CONFIG", message });
        return;
      }
      seen.set(policyGroup(name), name);
    }
  });
});
