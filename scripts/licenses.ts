/**
 * Gathers the licence texts of all that is in the bundles, from what esbuild says it has put there:
 * dist/meta.json → dist/licenses.json and dist/licenses.txt. A package without a text stops the build.
 *
 *     tsx scripts/licenses.ts
 */
import { readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { Metafile } from "esbuild";
import { z } from "zod";

const ROOT = join(import.meta.dirname, "..");

export interface LicenseEntry {
  name: string;
  version: string;
  /** As the package names it, an SPDX expression mostly. */
  license: string;
  /** The licence's whole text, notices included. */
  text: string;
}

const packageSchema = z.object({
  name: z.string(),
  version: z.string(),
  license: z.string().optional(),
  /** An older form of `license`. */
  licenses: z.array(z.object({ type: z.string() })).optional(),
  author: z.unknown().optional(),
});
type Package = z.infer<typeof packageSchema>;

const LICENSE_FILE = /^(licen[cs]e|copying|notice|unlicense)/i;
/** Packages that state a licence of others at the head of a source file, and nowhere else. */
const SOURCE_HEADERS: ReadonlyMap<string, string> = new Map([
  ["@bufbuild/protobuf", "dist/esm/wire/varint.js"],
]);

const MIT_TERMS = `Permission is hereby granted, free of charge, to any person obtaining a copy
of this software and associated documentation files (the "Software"), to deal
in the Software without restriction, including without limitation the rights
to use, copy, modify, merge, publish, distribute, sublicense, and/or sell
copies of the Software, and to permit persons to whom the Software is
furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all
copies or substantial portions of the Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR
IMPLIED, INCLUDING BUT NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY,
FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE
AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER
LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM,
OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE
SOFTWARE.`;

/** The folders of the packages that have at least one byte in a bundle. */
export function bundledPackages(metafile: Pick<Metafile, "outputs">): string[] {
  const folders = new Set<string>();
  for (const output of Object.values(metafile.outputs)) {
    for (const [path, { bytesInOutput }] of Object.entries(output.inputs)) {
      const folder = /^.*node_modules\/(?:@[^/]+\/)?[^/]+/.exec(path)?.[0];
      if (folder !== undefined && bytesInOutput > 0) folders.add(folder);
    }
  }
  return [...folders].sort();
}

/**
 * This program's licence, then that of each bundled package by name.
 * @throws Error naming a package that has no licence text
 */
export async function collectLicenses(
  metafile: Pick<Metafile, "outputs">,
  root = ROOT,
): Promise<LicenseEntry[]> {
  const own = await readPackage(root);
  const entries = await Promise.all(bundledPackages(metafile).map((folder) => licenseOf(join(root, folder))));
  const unique = new Map(entries.map((entry) => [`${entry.name}@${entry.version}`, entry]));
  const others = [...unique.entries()].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, entry]) => entry);
  const text = await readFile(join(root, "LICENSE"), "utf8");
  return [
    { name: own.name, version: own.version, license: licenseName(own), text: withoutBlankEdges(text) },
    ...others,
  ];
}

async function licenseOf(folder: string): Promise<LicenseEntry> {
  const description = await readPackage(folder);
  const { name, version } = description;
  const files = (await readdir(folder)).filter((file) => LICENSE_FILE.test(file)).sort();
  const texts = await Promise.all(files.map((file) => readFile(join(folder, file), "utf8")));
  if (texts.length === 0) texts.push(...(await textsWithoutFile(folder, description)));
  if (texts.length === 0) {
    throw new Error(
      `${name}@${version} (${licenseName(description)}) is bundled, but no licence text of it is known`,
    );
  }
  return {
    name,
    version,
    license: licenseName(description),
    text: texts.map(withoutBlankEdges).join("\n\n"),
  };
}

/** What a package's licence says where the package only names it. */
async function textsWithoutFile(folder: string, description: Package): Promise<string[]> {
  const license = licenseName(description);
  const texts: string[] = [];
  if (/\bMIT\b/.test(license))
    texts.push(`MIT License\n\nCopyright (c) ${holder(description)}\n\n${MIT_TERMS}`);
  if (/\bApache-2\.0\b/.test(license)) texts.push(await readFile(join(ROOT, "LICENSE"), "utf8"));
  const header = SOURCE_HEADERS.get(description.name);
  if (header !== undefined) texts.push(leadingComment(await readFile(join(folder, header), "utf8")));
  return texts;
}

function leadingComment(source: string): string {
  const lines = source.split("\n");
  const end = lines.findIndex((line) => !line.startsWith("//"));
  return lines
    .slice(0, end)
    .map((line) => line.replace(/^\/\/ ?/, ""))
    .join("\n");
}

function holder({ author, name }: Package): string {
  if (typeof author === "string") return author;
  const isPerson = typeof author === "object" && author !== null && "name" in author;
  return isPerson ? String(author.name) : `the authors of ${name}`;
}

function licenseName({ license, licenses }: Package): string {
  // An SPDX expression of several licences stands in parentheses.
  const expression = license?.replace(/^\((.*)\)$/, "$1");
  return expression ?? licenses?.map(({ type }) => type).join(" OR ") ?? "not named";
}

function withoutBlankEdges(text: string): string {
  return text.replace(/^(\s*\n)+/, "").trimEnd();
}

async function readPackage(folder: string): Promise<Package> {
  return packageSchema.parse(JSON.parse(await readFile(join(folder, "package.json"), "utf8")));
}

/** All entries as one text for people. */
export function renderLicenses(entries: readonly LicenseEntry[]): string {
  const [own, ...others] = entries;
  if (own === undefined) return "";
  const rule = "=".repeat(80);
  const section = ({ name, version, license, text }: LicenseEntry): string =>
    `${rule}\n${name} ${version} (${license})\n${rule}\n\n${text}\n`;
  const contents = others.map(({ name, version, license }) => `  ${name} ${version} (${license})`);
  const intro = [
    "This program contains the following packages; their licences follow its own.",
    "",
    ...contents,
  ];
  return [section(own), `${intro.join("\n")}\n`, ...others.map(section)].join("\n");
}

async function main(): Promise<void> {
  const metafile = JSON.parse(await readFile(join(ROOT, "dist/meta.json"), "utf8")) as Metafile;
  const entries = await collectLicenses(metafile);
  await writeFile(join(ROOT, "dist/licenses.json"), `${JSON.stringify(entries, null, 2)}\n`);
  await writeFile(join(ROOT, "dist/licenses.txt"), renderLicenses(entries));
  process.stdout.write(`  licences of ${entries.length - 1} bundled packages\n`);
}

if (process.argv[1] === import.meta.filename) await main();
