import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import { decideGarbage, GRACE_MS, type ImageUsage, type PoolImages } from "../../../src/images/garbage.ts";
import type { BaseImage, GoldenImage, SnapshotImage } from "../../../src/images/image.ts";
import type { ImageInventory, Pointer } from "../../../src/images/inventory.ts";

const NOW = Date.parse("2026-01-02T00:00:00Z");
const OLD = new Date(NOW - GRACE_MS);
const YOUNG = new Date(NOW - GRACE_MS + 1);

const golden = (name: string, createdAt = OLD, baseName = "base-1"): GoldenImage => ({
  name,
  inputs: name,
  baseName,
  directory: `/d/golden/${name}`,
  diskPath: "",
  diskFormat: "raw",
  overlayPath: "",
  kernelPath: "",
  initrdPath: undefined,
  rootDevice: "",
  kernelArguments: [],
  createdAt,
});
const snapshot = (name: string, goldenImage: string, createdAt = OLD): SnapshotImage => ({
  name,
  goldenImage,
  directory: `/d/snapshots/${name}`,
  diskPath: "",
  diskFormat: "raw",
  overlayPath: "",
  memoryPath: "",
  kernelPath: undefined,
  stateDirectory: "",
  createdAt,
});
const base = (name: string, createdAt = OLD): BaseImage => ({
  name,
  diskPath: "",
  diskFormat: "raw",
  kernelPath: "",
  initrdPath: undefined,
  rootDevice: "",
  kernelArguments: [],
  createdAt,
});
const pointer = (name: string, target: string | undefined, modifiedAt = OLD): Pointer => ({
  name: `.current-${name}`,
  target,
  modifiedAt,
});
const pool = (overrides: Partial<PoolImages> = {}): PoolImages => ({
  current: "new",
  baseNames: ["base-1"],
  pointerName: ".current-pool",
  ...overrides,
});
const inventory = (overrides: Partial<ImageInventory>): ImageInventory => ({
  diskDirectory: "/d",
  golden: [],
  snapshots: [],
  bases: [],
  goldenPointers: [],
  basePointers: [],
  leftovers: [],
  ...overrides,
});
const paths = (found: ImageInventory, usage: Partial<ImageUsage> = {}): string[] =>
  decideGarbage(found, { pools: [pool()], used: new Set(), usedSnapshots: new Set(), ...usage }, NOW).map(
    ({ path }) => path,
  );

describe("garbage among images", () => {
  test("a golden image goes when no VM is made of it and no pool has it as its current one", () => {
    const found = inventory({ golden: ["new", "used", "old"].map((name) => golden(name)) });
    assert.deepEqual(paths(found, { used: new Set(["used"]) }), ["/d/golden/old"]);
  });

  test("what was made within the grace period stays, and what seems to be of the future", () => {
    const future = new Date(NOW + 86_400_000);
    const found = inventory({
      golden: [golden("a", YOUNG), golden("b", future)],
      bases: [base("base-2", YOUNG)],
      leftovers: [{ path: "/d/golden/.x.tmp", modifiedAt: YOUNG }],
      goldenPointers: [pointer("other", "a", YOUNG)],
    });
    assert.deepEqual(paths(found), []);
  });

  test("what a pool's own pointer names stays, though the pool has not looked at it lately", () => {
    const found = inventory({
      golden: [golden("new"), golden("newest")],
      goldenPointers: [pointer("pool", "newest")],
    });
    assert.deepEqual(paths(found), []);
  });

  test("a pointer of no pool goes, and then what it names", () => {
    const found = inventory({ golden: [golden("old")], goldenPointers: [pointer("other", "old")] });
    assert.deepEqual(paths(found), ["/d/golden/.current-other", "/d/golden/old"]);
  });

  test("while a pool has no image of its own, what any pointer names stays", () => {
    const found = inventory({
      golden: [golden("old"), golden("older")],
      goldenPointers: [pointer("other", "old")],
    });
    const pools = [pool(), pool({ current: undefined, pointerName: ".current-second" })];
    assert.deepEqual(paths(found, { pools }), ["/d/golden/older"]);
  });

  test("a base image stays for the next golden image of it, and goes with the pointer that names it", () => {
    const found = inventory({
      bases: [base("base-1"), base("base-2"), base("base-3")],
      basePointers: [pointer("ubuntu-a", "base-1"), pointer("ubuntu-b", "base-3")],
    });
    const pools = [pool({ baseNames: ["base-1", "base-2"] })];
    assert.deepEqual(paths(found, { pools }), ["/d/base/.current-ubuntu-b", "/d/base/base-3"]);
  });

  test("no base image goes while it is not known which one a pool needs", () => {
    const found = inventory({ bases: [base("base-2")], basePointers: [pointer("ubuntu", "base-2")] });
    assert.deepEqual(paths(found, { pools: [pool({ baseNames: [] })] }), []);
  });

  test("a pointer that cannot be read stays, and what was never finished goes", () => {
    const found = inventory({
      basePointers: [pointer("ubuntu", undefined)],
      leftovers: [{ path: "/d/base/.x.tmp", modifiedAt: OLD }],
    });
    assert.deepEqual(paths(found), ["/d/base/.x.tmp"]);
  });

  test("a snapshot goes when no VM and no pool goes on from it, and keeps its golden image until then", () => {
    const snapshots = ["new", "used", "old"].map((name) => snapshot(name, `of-${name}`));
    const found = inventory({ snapshots, golden: [golden("of-old"), golden("of-used")] });
    const usage = { pools: [pool({ currentSnapshot: "new" })], usedSnapshots: new Set(["used"]) };
    assert.deepEqual(paths(found, usage), ["/d/snapshots/old", "/d/golden/of-old"]);
    // Which one it needs is not known yet.
    assert.deepEqual(paths(inventory({ snapshots }), { pools: [pool({ current: undefined })] }), []);
    assert.deepEqual(paths(inventory({ snapshots: [snapshot("young", "of", YOUNG)] })), []);
  });

  test("never takes what a VM or a pool uses, and a second look finds nothing more", () => {
    const names = fc.constantFrom("a", "b", "c", "d", "e");
    const times = fc.constantFrom(OLD, YOUNG);
    const some = fc.uniqueArray(names);
    const pools = fc.array(
      fc.record({ current: fc.option(names, { nil: undefined }), baseNames: some, pointerName: names }),
      { minLength: 1, maxLength: 3 },
    );
    fc.assert(
      fc.property(some, some, some, pools, fc.dictionary(names, names), times, (...facts) => {
        const [goldenNames, baseNames, used, pooled, targets, time] = facts;
        const usage = {
          pools: pooled.map((one) => ({ ...one, pointerName: `.current-${one.pointerName}` })),
          used: new Set(used),
          usedSnapshots: new Set<string>(),
        };
        const found = inventory({
          golden: goldenNames.map((name) => golden(name, time)),
          bases: baseNames.map((name) => base(name, time)),
          goldenPointers: Object.entries(targets).map(([name, target]) => pointer(name, target, time)),
        });
        const doomed = decideGarbage(found, usage, NOW);
        const gone = new Set(doomed.map(({ path }) => path));
        for (const name of used) assert.ok(!gone.has(`/d/golden/${name}`));
        for (const one of usage.pools) {
          assert.ok(!gone.has(`/d/golden/${one.current}`));
          assert.ok(!gone.has(`/d/golden/${one.pointerName}`));
          for (const name of one.baseNames) assert.ok(!gone.has(`/d/base/${name}`));
        }
        if (time === YOUNG) assert.equal(gone.size, 0);
        const rest = inventory({
          golden: found.golden.filter(({ directory }) => !gone.has(directory)),
          bases: found.bases.filter(({ name }) => !gone.has(`/d/base/${name}`)),
          goldenPointers: found.goldenPointers.filter(({ name }) => !gone.has(`/d/golden/${name}`)),
        });
        assert.deepEqual(decideGarbage(rest, usage, NOW), []);
      }),
    );
  });
});
