import assert from "node:assert/strict";
import { tmpdir } from "node:os";
import { describe, test } from "node:test";
import { Admission, type HostLoad, roomFor } from "../../../src/sources/local/admission.ts";

const LIMITS = {
  memoryOvercommitPercent: 100,
  memoryReserveMiB: 1024,
  vcpusPerCore: 2,
  diskReserveGiB: 1,
  memoryPressureLimitPercent: 40,
};
const IDLE: HostLoad = {
  totalMiB: 9 * 1024,
  availableMiB: 8 * 1024,
  cores: 16,
  diskFreeMiB: 100 * 1024,
  freeInodes: 1_000_000,
  memoryPressurePercent: 0,
};
const VM = { memoryMiB: 2048, vcpus: 2 };
const NOTHING = { memoryMiB: 0, vcpus: 0 };

describe("how many more VMs a host can bear", () => {
  test("memory is promised once", () => {
    assert.equal(roomFor(VM, NOTHING, IDLE, LIMITS).vms, 4);
    assert.equal(roomFor(VM, { memoryMiB: 3 * 2048, vcpus: 6 }, IDLE, LIMITS).vms, 1);
    const full = roomFor(VM, { memoryMiB: 4 * 2048, vcpus: 8 }, IDLE, LIMITS);
    assert.equal(full.vms, 0);
    assert.match(
      full.reason,
      /8192 MiB of the host's memory in all, and have 8192 .*memory_overcommit_percent/,
    );
  });

  test("or more often, where VMs don't use all of theirs", () => {
    assert.equal(roomFor(VM, NOTHING, IDLE, { ...LIMITS, memoryOvercommitPercent: 200 }).vms, 8);
  });

  for (const [what, load, reason] of [
    ["memory that is really there", { availableMiB: 1000 }, /only 1000 MiB of memory available/],
    ["CPUs", { cores: 0 }, /virtual CPU cores/],
    ["disk space", { diskFreeMiB: 1025 }, /only 1025 MiB free \(disk_reserve_gb = 1\)/],
    ["inodes", { freeInodes: 3 }, /only 3 inodes free/],
    ["memory in time", { memoryPressurePercent: 41.2 }, /41 % of the time/],
  ] as const) {
    test(`without ${what} there is no room, and the reason is said`, () => {
      const room = roomFor(VM, NOTHING, { ...IDLE, ...load }, LIMITS);
      assert.equal(room.vms, 0);
      assert.match(room.reason, reason);
    });
  }

  test("an end makes room where VMs have all that they may, and not where the host itself is short", () => {
    const full = { memoryMiB: 4 * 2048, vcpus: 8 };
    assert.equal(roomFor(VM, full, IDLE, LIMITS).isScarce, false);
    assert.equal(roomFor(VM, full, { ...IDLE, availableMiB: 100 }, LIMITS).isScarce, true);
    assert.equal(roomFor(VM, full, { ...IDLE, diskFreeMiB: 1025 }, LIMITS).isScarce, true);
  });

  test("a kernel that tells no pressure, and a limit that is off, stop nothing", () => {
    assert.equal(roomFor(VM, NOTHING, { ...IDLE, memoryPressurePercent: undefined }, LIMITS).vms, 4);
    const off = { ...LIMITS, memoryPressureLimitPercent: 0 };
    assert.equal(roomFor(VM, NOTHING, { ...IDLE, memoryPressurePercent: 99 }, off).vms, 4);
  });

  test("this host's own figures are read, and promises of all pools count until they are released", async () => {
    const admission = new Admission({ ...LIMITS, memoryReserveMiB: 0, vcpusPerCore: 256, diskReserveGiB: 0 });
    const small = { memoryMiB: 64, vcpus: 1 };
    const before = await admission.room(small, tmpdir());
    admission.promise("fl-one", { memoryMiB: 64 * 3, vcpus: 1 });
    admission.promise("fl-one", { memoryMiB: 64 * 3, vcpus: 1 });
    const during = await admission.room(small, tmpdir());
    admission.release("fl-one");
    assert.ok(before.vms > during.vms, `${before.vms} ${during.vms}`);
    assert.ok((await admission.room(small, tmpdir())).vms > during.vms);
  });
});
