import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { type Goal, type Measurement, summarize } from "../../../bench/measurement.ts";
import { parseOptions } from "../../../bench/options.ts";
import { reportJson, reportTable } from "../../../bench/report.ts";
import { runMeasurements } from "../../../bench/run.ts";

const NAMES = ["boot.cold.ssh.s", "boot.original.ssh.s", "claim.warm.ms"];

describe("the command line of the benchmarks", () => {
  test("measures everything unless told otherwise", () => {
    const names = new Set(NAMES);
    assert.deepEqual(parseOptions([], NAMES), { jsonPath: undefined, names, runs: undefined });
  });

  test("chooses by how names begin", () => {
    assert.deepEqual(parseOptions(["--only", "boot.cold,claim", "--runs", "3", "--json", "out"], NAMES), {
      jsonPath: "out",
      names: new Set(["boot.cold.ssh.s", "claim.warm.ms"]),
      runs: 3,
    });
  });

  test("has a help that lists the names", () => {
    const help = parseOptions(["--help"], NAMES);
    assert.ok(typeof help === "string");
    for (const word of ["--only", "--runs", "--json", ...NAMES]) assert.ok(help.includes(word), word);
  });

  const refused: ReadonlyArray<[words: string[], reason: RegExp]> = [
    [["--fast"], /^unknown option '--fast'$/],
    [["boot"], /^unexpected argument 'boot'$/],
    [["--only", "boot,nothing"], /^no name begins with 'nothing' \(--help lists them\)$/],
    [["--only", "boot,"], /^no name begins with ''/],
    [["--json"], /^option '--json <file>' argument missing$/],
    [["--runs", "0"], /^--runs takes a whole number/],
    [["--runs", "1.5"], /^--runs takes a whole number/],
  ];
  for (const [words, message] of refused) {
    test(`refuses ${words.join(" ")}`, () => {
      assert.throws(() => parseOptions(words, NAMES), { code: "INVALID_ARGUMENT", message });
    });
  }
});

describe("the summary of several runs", () => {
  test("has the median of an odd and of an even number of them", () => {
    const expected = { min: 1, max: 10, unit: "ms" };
    assert.deepEqual(summarize("a.ms", [10, 1, 2]), { ...expected, median: 2, runs: 3 });
    assert.deepEqual(summarize("a.ms", [10, 1, 2, 4]), { ...expected, median: 3, runs: 4 });
  });
});

describe("the report", () => {
  const metrics = [
    { name: "boot.cold.ssh.s", goal: { atMost: 0.25, of: "boot.original.ssh.s" } },
    { name: "boot.original.ssh.s" },
    { name: "claim.warm.ms", goal: { atMost: 20 } },
  ];
  const summaries = new Map([
    ["boot.cold.ssh.s", summarize("boot.cold.ssh.s", [7.7])],
    ["boot.original.ssh.s", summarize("boot.original.ssh.s", [40])],
    ["claim.warm.ms", summarize("claim.warm.ms", [21, 21.0001, 102.5])],
  ]);
  const cellsOf = (lines: readonly string[]): string[][] => lines.map((line) => line.split(/ {2,}/));

  test("says which goals are met", () => {
    assert.deepEqual(cellsOf(reportTable(metrics, summaries)), [
      ["name", "median", "min", "max", "runs", "unit", "goal", "met"],
      ["boot.cold.ssh.s", "7.70", "7.70", "7.70", "1", "s", "≤ 0.25 × boot.original.ssh.s = 10.0", "yes"],
      ["boot.original.ssh.s", "40.0", "40.0", "40.0", "1", "s"],
      ["claim.warm.ms", "21.0", "21.0", "103", "3", "ms", "≤ 20", "NO"],
    ]);
  });

  test("leaves out what was not measured, and does not guess at what depends on it", () => {
    const some = new Map([["boot.cold.ssh.s", summarize("boot.cold.ssh.s", [7.7])]]);
    const [, row] = cellsOf(reportTable(metrics, some));
    assert.deepEqual(row?.slice(-2), ["≤ 0.25 × boot.original.ssh.s", "?"]);
    assert.equal(reportTable(metrics, some).length, 2);
  });

  test("wants all of several goals met, and writes a third as one", () => {
    const third = { atMost: 1 / 3, of: "boot.original.ssh.s" };
    const metOf = (goal: readonly Goal[]) =>
      cellsOf(reportTable([{ name: "boot.cold.ssh.s", goal }], summaries))[1]?.slice(-2);
    const text = "≤ 1/3 × boot.original.ssh.s = 13.3";
    assert.deepEqual(metOf([third, { atMost: 8 }]), [`${text}, ≤ 8`, "yes"]);
    assert.deepEqual(metOf([third, { atMost: 7 }]), [`${text}, ≤ 7`, "NO"]);
    assert.deepEqual(metOf([third, { atMost: 1, of: "none.s" }]), [`${text}, ≤ 1 × none.s`, "?"]);
  });

  test("is an object by name as JSON", () => {
    assert.deepEqual(JSON.parse(reportJson(summaries))["claim.warm.ms"], {
      median: 21,
      min: 21,
      max: 102.5,
      runs: 3,
      unit: "ms",
    });
  });
});

describe("measuring", () => {
  /** Counts its runs and closings in `events`. */
  function fake(names: string[], events: string[], run: (count: number) => number): Measurement {
    let count = 0;
    return {
      metrics: names.map((name) => ({ name })),
      runs: 3,
      warmups: 1,
      async prepare() {
        events.push("prepare");
        return {
          async run() {
            events.push("run");
            const value = run(count++);
            return Object.fromEntries(names.map((name) => [name, value]));
          },
          close: async () => void events.push("close"),
        };
      },
    };
  }

  test("does not count the runs that warm up", async () => {
    const events: string[] = [];
    const all = { names: new Set(["a.ms"]), runs: undefined };
    const { summaries } = await runMeasurements(
      [fake(["a.ms", "b.ms"], events, Number)],
      all,
      () => undefined,
    );
    assert.deepEqual([...summaries], [["a.ms", summarize("a.ms", [1, 2, 3])]]);
    assert.deepEqual(events, ["prepare", "run", "run", "run", "run", "close"]);
  });

  test("closes what failed, says so, and goes on", async () => {
    const events: string[] = [];
    const bad = fake(["a.ms"], events, () => {
      throw new Error("the reason");
    });
    const empty = fake(["b.ms"], [], () => Number.NaN);
    const good = fake(["c.ms"], [], () => 7);
    const options = { names: new Set(["a.ms", "b.ms", "c.ms"]), runs: 2 };
    const outcome = await runMeasurements([bad, empty, good], options, () => undefined);
    assert.deepEqual(events, ["prepare", "run", "close"]);
    assert.deepEqual(outcome.failures, [
      "a.ms failed: the reason",
      "b.ms failed: a run gave no number for b.ms",
    ]);
    assert.deepEqual([...outcome.summaries], [["c.ms", summarize("c.ms", [7, 7])]]);
  });

  test("does not prepare what was not asked for", async () => {
    const events: string[] = [];
    const none = { names: new Set(["other.ms"]), runs: undefined };
    await runMeasurements([fake(["a.ms"], events, Number)], none, () => undefined);
    assert.deepEqual(events, []);
  });
});
