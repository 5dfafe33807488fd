import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { scopeWords, strippingWords } from "../../../src/hypervisor/confinement.ts";
import type { VmLimits } from "../../../src/hypervisor/driver.ts";
import { createUsers, readersGroup } from "../../../src/hypervisor/users.ts";

const LIMITS: VmLimits = {
  memoryMiB: 1024,
  cpuWeight: 50,
  cpuPercent: 300,
  tasks: 130,
  diskMiBPerSecond: 0,
  diskOperationsPerSecond: 0,
};

describe("the words before a hypervisor's command", () => {
  test("take all capabilities, and leave what is asked for to be inherited", () => {
    assert.equal(
      strippingWords(["setuid", "sys_chroot"]).join(" "),
      "setpriv --inh-caps=-all,+setuid,+sys_chroot -- setpriv --no-new-privs --ambient-caps=-all --bounding-set=-all --",
    );
    assert.match(strippingWords([]).join(" "), /^setpriv --inh-caps=-all -- /);
  });

  test("make it another user from the beginning, with the groups that are said and no more", () => {
    const words = (groups: number[]): string => strippingWords([], { id: 700, groups }).join(" ");
    assert.match(words([104, 909]), / --bounding-set=-all --reuid=700 --regid=700 --groups=104,909 --$/);
    assert.match(words([]), / --reuid=700 --regid=700 --clear-groups --$/);
  });

  test("make a scope with the limits, and none for a disk that has none", () => {
    const words = scopeWords("fl-1", LIMITS, "/srv/disk");
    for (const word of [
      ...["--scope", "--collect", "--unit=fleetingd-fl-1", "--slice=fleetingd.slice"],
      ...["--property=MemoryMax=1024M", "--property=CPUWeight=50", "--property=CPUQuota=300%"],
      ...["--property=TasksMax=130", "--property=DevicePolicy=closed"],
    ]) {
      assert.ok(words.includes(word), word);
    }
    assert.equal(words.at(-1), "--");
    assert.doesNotMatch(words.join(" "), /=IO/);
  });

  test("name the disk's device by a file on it", () => {
    const limits = { ...LIMITS, diskMiBPerSecond: 2, diskOperationsPerSecond: 9 };
    assert.deepEqual(
      scopeWords("fl-1", limits, "/srv/a disk").filter((word) => word.includes("=IO")),
      ["ReadBandwidthMax", "WriteBandwidthMax", "ReadIOPSMax", "WriteIOPSMax"].map(
        (name) => `--property=IO${name}=/srv/a disk ${name.includes("IOPS") ? 9 : 2_097_152}`,
      ),
    );
    assert.doesNotMatch(scopeWords("fl-1", limits, undefined).join(" "), /=IO/);
  });
});

describe("users of VMs' processes", () => {
  test("are never shared, and come back last", () => {
    const users = createUsers({ first: 100, last: 104 });
    users.reserve(101);
    assert.deepEqual([users.acquire(), users.acquire()], [100, 102]);
    users.release(100);
    users.release(100);
    assert.deepEqual([users.acquire(), users.acquire()], [103, 100]);
    assert.throws(() => users.acquire(), { code: "EXHAUSTED", message: /all 4 users of 100-103/ });
    users.release(101);
    assert.equal(users.acquire(), 101);
  });

  test("have a group besides, which is no VM's own", () => {
    const range = { first: 100, last: 101 };
    const users = createUsers(range);
    assert.equal(users.acquire(), 100);
    assert.throws(() => users.acquire(), { code: "EXHAUSTED" });
    assert.equal(readersGroup(range), 101);
  });

  test("are root where none are configured", () => {
    assert.equal(createUsers(undefined).acquire(), undefined);
  });
});
