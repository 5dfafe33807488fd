import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { seriesCandidates } from "../../../src/images/ubuntu-series.ts";

const NOW = new Date("2026-11-21");

describe("lts, released", () => {
  test("asks for versions, newest first; a code name is only another way", () => {
    const { list } = seriesCandidates("lts", "release", NOW, "");
    assert.deepEqual(
      list.slice(0, 4).map(({ series, folder }) => [series, folder]),
      [
        ["resolute", "releases/26.04/release"],
        ["resolute", "releases/resolute/release"],
        ["noble", "releases/24.04/release"],
        ["noble", "releases/noble/release"],
      ],
    );
  });

  test("finds releases that did not exist when this was written", () => {
    const { list } = seriesCandidates("lts", "release", new Date("2031-02-01"), "");
    assert.deepEqual(
      list.slice(0, 3).map(({ series, folder }) => [series, folder]),
      [
        ["30.04", "releases/30.04/release"],
        ["28.04", "releases/28.04/release"],
        ["resolute", "releases/26.04/release"],
      ],
    );
    assert.ok(list[0]?.prefix.test("ubuntu-30.04"));
    assert.ok(!list[0]?.prefix.test("ubuntu-28.04"));
  });

  test("a clock that stands still does not hide what is known", () => {
    assert.equal(
      seriesCandidates("lts", "release", new Date(0), "").list[0]?.folder,
      "releases/26.04/release",
    );
  });
});

describe("lts, daily", () => {
  test("code names only, and nothing that is still being made", () => {
    const info = "28.04 LTS,Tame Tapir,tame,2027-10-01,2028-04-20,2033-05-01\n";
    const before = seriesCandidates("lts", "daily", new Date("2028-02-01"), info);
    assert.equal(before.list[0]?.folder, "resolute/current");
    const after = seriesCandidates("lts", "daily", new Date("2028-05-02"), info);
    assert.equal(after.list[0]?.folder, "tame/current");
    assert.equal(after.unknownVersion, undefined);
  });

  test("a release whose code name nobody told us is said", () => {
    const { list, unknownVersion } = seriesCandidates("lts", "daily", new Date("2028-06-01"), "");
    assert.equal(list[0]?.folder, "resolute/current");
    assert.equal(unknownVersion, "28.04");
  });
});

describe("a named series", () => {
  test("released and daily", () => {
    const [released] = seriesCandidates("noble", "release", NOW, "").list;
    assert.equal(released?.folder, "releases/noble/release");
    assert.ok(released?.prefix.test("ubuntu-24.04"));
    assert.ok(!released?.prefix.test("ubuntu-22.04"), "another series' well-signed files are not taken");
    const [daily, sameFiles] = seriesCandidates("noble", "daily", NOW, "").list;
    assert.equal(daily?.folder, "noble/current");
    assert.equal(sameFiles?.folder, "daily/server/noble/current");
    assert.ok(daily?.prefix.test("noble"));
    assert.ok(!daily?.prefix.test("jammy"));
  });

  test("one that is not known here", () => {
    const [candidate] = seriesCandidates("zesty", "release", NOW, "").list;
    assert.ok(candidate?.prefix.test("ubuntu-17.04"));
    assert.ok(candidate?.prefix.test("zesty"));
  });

  test("names that could lead elsewhere are refused", () => {
    for (const series of ["../x", "a", "noble/..", "No", "", "24.04/"]) {
      assert.throws(() => seriesCandidates(series, "release", NOW, ""), { code: "INVALID_ARGUMENT" });
    }
  });
});
