import assert from "node:assert/strict";
import { cp, mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { after, before, describe, test } from "node:test";
import { manualFiles } from "../../../scripts/manual.ts";
import { exists } from "../../../src/host/files.ts";
import { run } from "../../../src/host/run.ts";
import { needsPrograms } from "../../helpers/namespace.ts";

const ROOT = join(import.meta.dirname, "../../..");
const UNIT = "usr/lib/systemd/system/fleetingd.service";
// The aim for what a daemon that makes VMs can be held to; 10 is no protection at all.
const MAX_EXPOSURE = 3;
const MAX_EXPOSURE_BUILDING_IMAGES = 4;

const lacksSystemd = await needsPrograms("systemd-analyze");

describe("an installation into a tree of its own", () => {
  let folder: string;
  let tree: string;
  /** A copy that has what `install` reads, built or not. */
  let checkout: string;

  const script = (name: "install" | "uninstall", ...words: string[]) =>
    run(join(checkout, name), ["--prefix", "/opt/fleetingd", ...words], { env: { DESTDIR: tree } });

  before(async () => {
    folder = await mkdtemp(join(tmpdir(), "fleetingd-install-"));
    tree = join(folder, "tree");
    checkout = join(folder, "checkout");
    for (const name of ["bin", "systemd", "templates", "install", "uninstall", "package.json", "LICENSE"]) {
      await cp(join(ROOT, name), join(checkout, name), { recursive: true });
    }
    await mkdir(join(checkout, "dist"));
    await writeFile(
      join(checkout, "dist/fleetingd.mjs"),
      'console.log("the daemon", ...process.argv.slice(2));',
    );
    await writeFile(
      join(checkout, "dist/plugin.cjs"),
      'console.log("the plugin", ...process.argv.slice(2));',
    );
    await writeFile(join(checkout, "dist/built"), "");
    for (const [path, text] of Object.entries(manualFiles("0"))) {
      await mkdir(join(checkout, "dist", dirname(path)), { recursive: true });
      await writeFile(join(checkout, "dist", path), text);
    }
  });

  after(() => rm(folder, { recursive: true, force: true }));

  test("runs both programs through the links", async () => {
    await script("install");
    const daemon = await run(join(tree, "opt/fleetingd/bin/fleetingd"), ["status", "two words"]);
    assert.equal(daemon.stdout, "the daemon status two words");
    const plugin = await run(join(tree, "opt/fleetingd/bin/fleeting-plugin-fleetingd"), []);
    assert.equal(plugin.stdout, "the plugin");
  });

  test("has all files that the programs read, for everybody to read", async () => {
    const library = join(tree, "opt/fleetingd/lib/fleetingd");
    assert.equal(
      await readFile(join(library, "LICENSE"), "utf8"),
      await readFile(join(ROOT, "LICENSE"), "utf8"),
    );
    const shipped = await readdir(join(ROOT, "templates"), { recursive: true });
    assert.deepEqual((await readdir(join(library, "templates"), { recursive: true })).sort(), shipped.sort());
    for (const name of ["templates", "dist/fleetingd.mjs", "package.json"]) {
      assert.equal((await stat(join(library, name))).mode & 0o044, 0o044, name);
    }
  });

  test("keeps a configuration that is there", async () => {
    const path = join(tree, "etc/fleetingd/config.toml");
    await writeFile(path, "# mine\n");
    await script("install");
    assert.equal(await readFile(path, "utf8"), "# mine\n");
  });

  test("replaces an older version as a whole", async () => {
    const stale = join(tree, "opt/fleetingd/lib/fleetingd/dist/old.mjs");
    await writeFile(stale, "");
    await script("install");
    assert.equal(await exists(stale), false);
  });

  test("has a unit that systemd accepts, and that is held to what it needs", {
    skip: lacksSystemd,
  }, async () => {
    const unit = (await readFile(join(tree, UNIT), "utf8")).replace(/^ExecStart=.*$/m, "ExecStart=/bin/true");
    assert.doesNotMatch(unit, /@PREFIX@/);
    const path = join(folder, "fleetingd.service");
    await writeFile(path, unit);
    const { stderr } = await run("systemd-analyze", ["verify", path]);
    assert.equal(
      stderr
        .split("\n")
        .filter((line) => line.includes("fleetingd.service"))
        .join("\n"),
      "",
    );
    await assertExposure(path, MAX_EXPOSURE);
    const dropIn = await readFile(join(ROOT, "systemd/building-images.conf"), "utf8");
    await writeFile(path, unit.replace("[Install]", `${dropIn}\n[Install]`));
    await assertExposure(path, MAX_EXPOSURE_BUILDING_IMAGES);
  });

  test("is removed but for the configuration and the state", async () => {
    await mkdir(join(tree, "var/lib/fleetingd"), { recursive: true });
    await script("uninstall");
    assert.deepEqual(await filesBelow(tree), ["etc/fleetingd/config.toml"]);
    await script("uninstall", "--purge");
    assert.deepEqual(await filesBelow(tree), []);
    assert.equal(await exists(join(tree, "var/lib/fleetingd")), false);
  });

  test("is refused without a build, in one sentence", async () => {
    await rm(join(checkout, "dist"), { recursive: true });
    await assert.rejects(script("install"), /There is no build: run scripts\/setup run/);
  });
});

async function assertExposure(path: string, maximum: number): Promise<void> {
  const words = ["security", "--offline=true", "--no-pager", `--threshold=${maximum * 10}`, path];
  const { exitCode, stdout } = await run("systemd-analyze", words, { acceptedExitCodes: [0, 1] });
  assert.equal(exitCode, 0, stdout.split("\n").at(-1));
}

async function filesBelow(folder: string): Promise<string[]> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  return entries
    .filter((entry) => !entry.isDirectory())
    .map((entry) => join(entry.parentPath, entry.name).slice(folder.length + 1))
    .sort();
}
