/**
 * Makes dist/ from src/ and proto/: generated code, then one file per program, so that an installation needs Node and
 * nothing else.
 *
 *     tsx scripts/build.ts              everything
 *     tsx scripts/build.ts --generate   only src/gen, which the type checker and the tests need
 */
import { readFile } from "node:fs/promises";
import { basename, join, relative } from "node:path";
import { type BuildOptions, build, type Metafile } from "esbuild";
import { describeError, messageOf } from "../src/errors.ts";
import { ensureDirectory, listDirectory, removeTree, writeFileAtomic } from "../src/host/files.ts";
import { run } from "../src/host/run.ts";

const ROOT = join(import.meta.dirname, "..");
const DIST = join(ROOT, "dist");
const TOOLS = join(ROOT, "node_modules/.bin");
const META_FILE = "meta.json";
/** scripts/setup compares its time with the sources', so it is written when all the rest has succeeded. */
const STAMP_FILE = "built";
const LICENSE_COLLECTOR = "scripts/licenses.ts";
const MANUAL_WRITER = "scripts/manual.ts";
const MIB = 1024 * 1024;

// Modules that are split, so that a command loads only what it needs: `status` starts 50 ms sooner and 13 MiB smaller
// than from one file. Not minified: its stack traces end in bug reports. What is CommonJS in it looks for these names.
const DAEMON: BuildOptions = {
  entryPoints: [{ in: "src/main.ts", out: "fleetingd" }],
  format: "esm",
  splitting: true,
  chunkNames: "fleetingd-[name]-[hash]",
  outExtension: { ".js": ".mjs" },
  banner: {
    js: [
      'import { createRequire as createRequireOfBundle } from "node:module";',
      "const require = createRequireOfBundle(import.meta.url);",
      "const __filename = import.meta.filename, __dirname = import.meta.dirname;",
    ].join("\n"),
  },
};

/** Where the Debian package has its Node. */
const PACKAGED_NODE = "/usr/lib/fleetingd/bin/node";

// One small CommonJS file: the runner waits for its handshake, and one runs for every [[runners]] entry.
const PLUGIN: BuildOptions = {
  entryPoints: [{ in: "src/plugin/main.ts", out: "plugin" }],
  format: "cjs",
  outExtension: { ".js": ".cjs" },
  minify: true,
  define: { "import.meta.dirname": "__dirname", "import.meta.url": "FLEETINGD_FILE_URL" },
  banner: {
    js: [
      // For the shell, which starts it, the second line is a command; for Node it is two strings.
      "#!/bin/sh",
      `":" //; n=\${FLEETINGD_NODE:-node}; command -v "$n" >/dev/null || n=${PACKAGED_NODE}; exec "$n" "$0" "$@"`,
      'const FLEETINGD_FILE_URL = require("node:url").pathToFileURL(__filename).href;',
    ].join("\n"),
  },
};

// What browsers get. Nothing of it is from elsewhere.
const PAGE: BuildOptions = {
  entryPoints: [
    { in: "src/page/main.tsx", out: "page" },
    { in: "src/page/page.css", out: "page" },
    { in: "src/page/page.html", out: "page" },
    { in: "src/page/login.html", out: "page-login" },
    { in: "src/page/icon.svg", out: "page" },
  ],
  format: "esm",
  platform: "browser",
  target: ["chrome111", "firefox115", "safari16.4"],
  loader: { ".html": "copy", ".svg": "copy" },
  jsx: "automatic",
  jsxImportSource: "preact",
  minify: true,
};

try {
  await main();
} catch (error) {
  process.stderr.write(`${describeError(error)}\n`);
  process.exitCode = 1;
}

async function main(): Promise<void> {
  await run(join(TOOLS, "buf"), ["generate"], { cwd: ROOT, timeoutMs: 60_000 });
  if (process.argv.includes("--generate")) return;
  await ensureDirectory(DIST, 0o755);
  const define = await definitions();
  const made = await Promise.all([bundle(DAEMON, define), bundle(PLUGIN, define), bundle(PAGE, define)]);
  const metafile: Metafile = { inputs: {}, outputs: {} };
  for (const { inputs, outputs } of made) {
    Object.assign(metafile.inputs, inputs);
    Object.assign(metafile.outputs, outputs);
  }
  await removeOthers(new Set([META_FILE, ...Object.keys(metafile.outputs).map((path) => basename(path))]));
  await writeFileAtomic(join(DIST, META_FILE), JSON.stringify(metafile), 0o644);
  for (const script of [LICENSE_COLLECTOR, MANUAL_WRITER])
    await run(process.execPath, ["--import", "tsx", script], { cwd: ROOT, timeoutMs: 60_000 });
  await writeFileAtomic(join(DIST, STAMP_FILE), "", 0o644);
}

/** Each file is there as a whole or not at all: a program may start meanwhile. */
async function bundle(options: BuildOptions, define: Record<string, string>): Promise<Metafile> {
  const result = await build({
    platform: "node",
    target: "node20.19",
    ...options,
    define: { ...options.define, ...define },
    absWorkingDir: ROOT,
    outdir: "dist",
    bundle: true,
    legalComments: "none",
    // ssh2 loads its native parts inside a try block, and does without them.
    external: ["cpu-features", "*.node"],
    metafile: true,
    write: false,
    logLevel: "warning",
  });
  for (const file of result.outputFiles) await writeFileAtomic(file.path, file.contents, 0o644);
  const bytes = result.outputFiles.reduce((sum, file) => sum + file.contents.length, 0);
  const entry = relative(ROOT, result.outputFiles[0]?.path ?? "");
  process.stdout.write(`  ${entry}: ${(bytes / MIB).toFixed(2)} MiB in ${result.outputFiles.length} files\n`);
  return result.metafile;
}

/** What an earlier build made and this one did not. */
async function removeOthers(made: ReadonlySet<string>): Promise<void> {
  for (const name of await listDirectory(DIST)) if (!made.has(name)) await removeTree(join(DIST, name));
}

async function definitions(): Promise<Record<string, string>> {
  const { version } = JSON.parse(await readFile(join(ROOT, "package.json"), "utf8")) as { version: string };
  return { FLEETINGD_VERSION: JSON.stringify(version), FLEETINGD_BUILD: JSON.stringify(await commit()) };
}

async function commit(): Promise<string> {
  try {
    return (await run("git", ["rev-parse", "--short=12", "HEAD"], { cwd: ROOT })).stdout.trim();
  } catch (error) {
    // A release's archive is no repository, and a host may lack git: neither stops a build.
    process.stderr.write(`  the commit is not known: ${messageOf(error).split("\n")[0]}\n`);
    return "unknown";
  }
}
