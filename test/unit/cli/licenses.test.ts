import assert from "node:assert/strict";
import { access, mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { before, describe, test } from "node:test";
import { build, type Metafile } from "esbuild";
import {
  bundledPackages,
  collectLicenses,
  type LicenseEntry,
  renderLicenses,
} from "../../../scripts/licenses.ts";

const ROOT = join(import.meta.dirname, "../../..");
const ENTRIES = ["src/main.ts", "src/plugin/main.ts", "src/cli/program.ts"];

describe("licences", () => {
  let metafile: Metafile;
  let entries: LicenseEntry[];

  before(async () => {
    const present = await Promise.all(ENTRIES.map(async (entry) => ((await isThere(entry)) ? [entry] : [])));
    const result = await build({
      absWorkingDir: ROOT,
      entryPoints: present.flat(),
      outdir: "dist/never-written",
      bundle: true,
      write: false,
      metafile: true,
      platform: "node",
      format: "esm",
      external: ["cpu-features", "*.node"],
      logLevel: "error",
    });
    metafile = result.metafile;
    entries = await collectLicenses(metafile);
  });

  test("every bundled package is there, with its version and a text", () => {
    const folders = bundledPackages(metafile);
    assert.ok(folders.length > 5, folders.join(" "));
    for (const folder of folders) {
      const name = folder.slice(folder.lastIndexOf("node_modules/") + "node_modules/".length);
      const entry = entries.find((candidate) => candidate.name === name);
      assert.ok(entry !== undefined, `${name} is missing`);
      assert.match(entry.version, /^\d+\./);
      assert.notEqual(entry.license, "not named", name);
      assert.match(entry.text, /copyright|public domain|licen[sc]e/i, name);
      assert.ok(entry.text.length > 400, `${name}: ${entry.text}`);
    }
  });

  test("the program's own licence comes first", () => {
    const [own] = entries;
    assert.equal(own?.name, "fleetingd");
    assert.equal(own?.license, "Apache-2.0");
    assert.match(own?.text ?? "", /^\s*Apache License\s+Version 2\.0/);
    assert.match(own?.text ?? "", /END OF TERMS AND CONDITIONS/);
  });

  test("a package that states a second licence only in its sources has both", () => {
    const text = entries.find(({ name }) => name === "@bufbuild/protobuf")?.text ?? "";
    assert.match(text, /Apache License/);
    assert.match(text, /Copyright 2008 Google Inc\..*Redistributions in binary form/s);
  });

  test("a package without any licence text stops the build", async (context) => {
    const root = await mkdtemp(join(tmpdir(), "fleetingd-licenses-"));
    context.after(() => rm(root, { recursive: true }));
    const folder = join(root, "node_modules/@a/b");
    await mkdir(folder, { recursive: true });
    await writeFile(join(root, "LICENSE"), "own");
    await writeFile(join(root, "package.json"), '{"name":"own","version":"1.0.0","license":"MIT"}');
    await writeFile(join(folder, "package.json"), '{"name":"@a/b","version":"2.0.0","license":"Odd-1.0"}');
    const input = { "node_modules/@a/b/x/index.js": { bytesInOutput: 1 } };
    const outputs = { "a.js": { bytes: 1, inputs: input, imports: [], exports: [] } };
    await assert.rejects(
      collectLicenses({ outputs }, root),
      /@a\/b@2\.0\.0 \(Odd-1\.0\) is bundled, but no licence text/,
    );
    await writeFile(join(folder, "COPYING"), "\n  Do as you like.\n");
    assert.deepEqual((await collectLicenses({ outputs }, root)).at(-1), {
      name: "@a/b",
      version: "2.0.0",
      license: "Odd-1.0",
      text: "  Do as you like.",
    });
  });

  test("the text for people names every package and holds every text", () => {
    const text = renderLicenses(entries);
    for (const entry of entries) {
      assert.ok(text.includes(`${entry.name} ${entry.version} (${entry.license})`), entry.name);
      assert.ok(text.includes(entry.text), entry.name);
    }
  });
});

async function isThere(path: string): Promise<boolean> {
  try {
    await access(join(ROOT, path));
    return true;
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "ENOENT") return false;
    throw error;
  }
}
