import assert from "node:assert/strict";
import { readdir, readFile } from "node:fs/promises";
import { join, relative } from "node:path";
import { before, describe, test } from "node:test";

const ROOT = join(import.meta.dirname, "../../..");
const MEDIAN_LINES = 120;
const MAX_LINES = 400;

interface SourceFile {
  path: string;
  text: string;
}

async function sourcesOf(folder: string): Promise<SourceFile[]> {
  const entries = await readdir(join(ROOT, folder), { recursive: true, withFileTypes: true });
  const paths = entries
    .filter((entry) => entry.isFile() && entry.name.endsWith(".ts"))
    .map((entry) => relative(ROOT, join(entry.parentPath, entry.name)))
    .filter((path) => !path.startsWith("src/gen/"));
  return Promise.all(paths.map(async (path) => ({ path, text: await readFile(join(ROOT, path), "utf8") })));
}

const lineCount = ({ text }: SourceFile): number => text.split("\n").length - 1;

describe("the source", () => {
  let sources: SourceFile[];

  before(async () => {
    sources = await sourcesOf("src");
  });

  const pathsWith = (pattern: RegExp): string[] =>
    sources.filter(({ text }) => pattern.test(text)).map(({ path }) => path);

  test("is in files of a screen or two", () => {
    const lengths = sources.map(lineCount).sort((a, b) => a - b);
    const median = lengths[Math.floor(lengths.length / 2)] ?? 0;
    assert.ok(median <= MEDIAN_LINES, `half of the files have more than ${median} lines`);
    assert.deepEqual(
      sources.filter((file) => lineCount(file) > MAX_LINES).map(({ path }) => path),
      [],
    );
  });

  test("has no place for what belongs nowhere", () => {
    assert.deepEqual(
      sources.map(({ path }) => path).filter((path) => /\b(utils?|helpers?|misc|common)\b/.test(path)),
      [],
    );
  });

  test("never blocks the event loop, but for what the kernel has in memory", () => {
    assert.deepEqual(
      pathsWith(/\b(exec|execFile|spawn|readFile|writeFile|readdir|mkdir|stat|exists)Sync\b/),
      ["src/host/proc.ts"],
    );
  });

  test("passes no command through a shell", () => {
    assert.deepEqual(pathsWith(/\bshell: true\b/), []);
  });

  test("switches no check of the type checker off", () => {
    assert.deepEqual(pathsWith(/@ts-(ignore|nocheck)|\bas any\b/), []);
  });
});

test("every dependency is one exact version", async () => {
  const text = await readFile(join(ROOT, "package.json"), "utf8");
  const { dependencies, devDependencies } = JSON.parse(text) as Record<string, Record<string, string>>;
  const versions = Object.entries({ ...dependencies, ...devDependencies });
  assert.ok(versions.length > 0);
  assert.deepEqual(
    versions.filter(([, version]) => !/^\d+\.\d+\.\d+$/.test(version)),
    [],
  );
});
