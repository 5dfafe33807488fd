import assert from "node:assert/strict";
import { copyFile, mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { after, before, describe, test } from "node:test";
import { run } from "../../../src/host/run.ts";

const ROOT = join(import.meta.dirname, "../../..");

/** A little house in which every module but the first few breaks a rule. */
const MODULES: Readonly<Record<string, string>> = {
  "src/errors.ts": "export const error = 1;",
  "src/host/run.ts": 'import "execa"; import { error } from "../errors.ts"; export const run = error;',
  "src/network/good.ts": 'import { run } from "../host/run.ts"; export const good = run;',
  "src/main.ts": [
    'import "./network/good.ts"; import "./network/sibling.ts"; import "./pool/reach.ts"; import "./host/up.ts";',
    'import "./cli/program.ts"; import "./cli/round.ts"; import "./sources/incus/incus.ts"; import "./cli/about-a-child.ts";',
  ].join("\n"),
  "src/network/sibling.ts": 'import { image } from "../images/image.ts"; export const sibling = image;',
  "src/images/image.ts": "export const image = 1;",
  "src/pool/reach.ts": 'import { good } from "../network/good.ts"; export const reach = good;',
  "src/host/up.ts": 'import { image } from "../images/image.ts"; export const up = image;',
  "src/cli/program.ts": 'import { spawn } from "node:child_process"; export const program = spawn;',
  "src/cli/about-a-child.ts":
    'import type { ChildProcess } from "node:child_process"; export type Child = ChildProcess;',
  "src/cli/round.ts": 'import { trip } from "./trip.ts"; export const round = (): unknown => trip;',
  "src/cli/trip.ts": 'import { round } from "./round.ts"; export const trip = (): unknown => round;',
  "src/cli/forgotten.ts": "export const forgotten = 1;",
  "src/sources/incus/incus.ts": 'import { image } from "../../images/image.ts"; export const incus = image;',
  "src/plugin/main.ts": 'import "./parse.ts"; import "../pool/reach.ts";',
  "src/plugin/parse.ts": 'import { z } from "zod"; export const parse = z;',
  "node_modules/zod/package.json": '{"name": "zod", "version": "1.0.0", "main": "index.js"}',
  "node_modules/zod/index.js": "exports.z = 1;",
  "node_modules/execa/package.json": '{"name": "execa", "version": "1.0.0", "main": "index.js"}',
  "node_modules/execa/index.js": "exports.execa = 1;",
  "package.json": '{"name": "house", "type": "module", "dependencies": {"zod": "1.0.0", "execa": "1.0.0"}}',
};

interface Violation {
  rule: { name: string };
  from: string;
}

describe("the import rules", () => {
  let house: string;
  let violations: string[];

  before(async () => {
    house = await mkdtemp(join(tmpdir(), "fleetingd-import-rules-"));
    for (const [path, text] of Object.entries(MODULES)) {
      await mkdir(dirname(join(house, path)), { recursive: true });
      await writeFile(join(house, path), text);
    }
    for (const name of [".dependency-cruiser.cjs", "tsconfig.json"]) {
      await copyFile(join(ROOT, name), join(house, name));
    }
    const program = join(ROOT, "node_modules/dependency-cruiser/bin/dependency-cruise.mjs");
    const words = [program, "--config", ".dependency-cruiser.cjs", "--output-type", "json", "src"];
    const { stdout } = await run(process.execPath, words, { cwd: house, timeoutMs: 60_000 });
    const { summary } = JSON.parse(stdout) as { summary: { violations: Violation[] } };
    violations = summary.violations.map(({ rule, from }) => `${rule.name}: ${from}`);
  });

  after(() => rm(house, { recursive: true, force: true }));

  const broken: Readonly<Record<string, string>> = {
    "network that imports images": "network-knows-no-sibling: src/network/sibling.ts",
    "a pool that imports network": "pool-knows-no-vm: src/pool/reach.ts",
    "a host that imports images": "host-stands-on-the-ground: src/host/up.ts",
    "a program run outside src/host": "only-host-runs-programs: src/cli/program.ts",
    "a cycle": "no-cycles: src/cli/round.ts",
    "a module that nothing reaches": "no-dead-modules: src/cli/forgotten.ts",
    "a cloud that imports images": "incus-is-a-cloud-like-any: src/sources/incus/incus.ts",
    "a plugin that imports the pool": "plugin-is-thin: src/plugin/main.ts",
    "a plugin that loads a heavy package indirectly": "plugin-starts-fast: src/plugin/main.ts",
  };

  for (const [what, violation] of Object.entries(broken)) {
    test(`refuse ${what}`, () => assert.ok(violations.includes(violation), violations.join("\n")));
  }

  test("let through what is allowed", () => {
    const allowed = /src\/(main|errors|host\/run|network\/good|images\/image|cli\/about-a-child)\.ts$/;
    assert.deepEqual(
      violations.filter((violation) => allowed.test(violation)),
      [],
    );
  });
});
