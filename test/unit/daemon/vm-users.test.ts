import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { parseConfig } from "../../../src/config.ts";
import { checkVmUsers, findOwner, isMapped } from "../../../src/daemon/vm-users.ts";

const RANGE = { first: 1000, last: 1999 };

describe("the users that VMs are to run as", () => {
  test("are refused if this host has given one of them to somebody", async () => {
    await assert.rejects(checkVmUsers({ first: 1, last: 10 }), {
      code: "INVALID_CONFIG",
      message: /the user \w+ has some of them \(\/etc\/passwd\)/,
    });
    await checkVmUsers({ first: 1_900_000_000, last: 1_900_065_535 });
    await checkVmUsers(undefined);
  });

  test("by a user's or group's number", () => {
    assert.equal(findOwner("root:x:0:0::/:\nann:x:1999:5:::\n", "id", RANGE), "ann");
    assert.equal(findOwner("root:x:0:0::/:\nann:x:2000:1500:::\n", "id", RANGE), undefined);
    assert.equal(findOwner("", "id", RANGE), undefined);
  });

  test("by a range of subordinate ones that touches it", () => {
    assert.equal(findOwner("ann:500:500\nbob:500:501\n", "first, count", RANGE), "bob");
    assert.equal(findOwner("ann:2000:65536\n", "first, count", RANGE), undefined);
    assert.equal(findOwner("ann:1500:1\n", "first, count", RANGE), "ann");
  });

  test("or if this user namespace has not all of them", () => {
    assert.ok(isMapped("         0          0 4294967295\n", RANGE));
    assert.ok(!isMapped("0 100000 1999\n", RANGE));
    assert.ok(isMapped("0 1 10\n1000 100000 1000\n", RANGE));
  });

  test("as the configuration says", () => {
    const users = (text: string) =>
      parseConfig([{ path: "c.toml", text: `[daemon]\nvm_uids = "${text}"` }]).daemon.vmUsers;
    assert.deepEqual(users("700000-700999"), { first: 700_000, last: 700_999 });
    assert.equal(users("none"), undefined);
    for (const wrong of ["", "0-10", "5", "9-5", "1-4294967294", "1 - 2", "-1-5", "auto", "1-2; drop"]) {
      assert.throws(() => users(wrong), /a range of uids such as/, wrong);
    }
  });
});
