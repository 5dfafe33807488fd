import assert from "node:assert/strict";
import { mkdtemp, readdir, readFile, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, test } from "node:test";
import { failOnLeaks } from "../../helpers/suite.ts";
import { runByHand } from "./host.ts";

failOnLeaks();

describe("the plugin on a command line", async () => {
  const directory = await mkdtemp(join(tmpdir(), "plugin-by-hand-"));
  after(() => rm(directory, { recursive: true }));

  test("started by hand it says what it is, on standard error, and fails", async () => {
    const { code, stdout, stderr } = await runByHand([]);
    assert.equal(code, 1);
    assert.equal(stdout, "");
    assert.match(stderr, /This is a plugin: GitLab Runner starts it/);
  });

  test("a wrong cookie is no cookie", async () => {
    const { code, stdout } = await runByHand(["serve"], { FLEETING_INSTANCE_GROUP_PLUGIN: "something else" });
    assert.equal(code, 1);
    assert.equal(stdout, "");
  });

  for (const argument of ["version", "--version", "-version"]) {
    test(`${argument} prints the package's version`, async () => {
      const { code, stdout, stderr } = await runByHand([argument]);
      const { version } = JSON.parse(await readFile("package.json", "utf8")) as { version: string };
      assert.deepEqual(
        { code, stdout, stderr },
        { code: 0, stdout: `fleeting-plugin-fleetingd ${version}\n`, stderr: "" },
      );
    });
  }

  test("unknown arguments are a usage error", async () => {
    const { code, stdout, stderr } = await runByHand(["serv"]);
    assert.equal(code, 2);
    assert.equal(stdout, "");
    assert.match(stderr, /Usage: fleeting-plugin-fleetingd/);
  });

  test("licenses prints the bundled packages' licences", async () => {
    const { code, stdout } = await runByHand(["licenses"]);
    assert.equal(code, 0);
    assert.match(stdout, /@grpc\/grpc-js/);
  });

  test("bootstrap installs one executable file that works, and only once", async () => {
    const env = { FLEETING_PLUGIN_PATH: directory };
    const { code, stdout, stderr } = await runByHand(
      ["bootstrap", "registry.example.com/Group/fleetingd:1.0"],
      env,
    );
    assert.equal(code, 0, stderr);
    const [version] = await readdir(join(directory, "registry.example.com/!group/fleetingd"));
    const installed = join(directory, "registry.example.com/!group/fleetingd", String(version));
    assert.equal(stdout, `${installed}\n`);
    assert.equal((await stat(join(installed, "plugin"))).mode & 0o777, 0o755);
    assert.deepEqual(await readdir(directory), ["registry.example.com"], "no staging folder is left");

    const again = await runByHand(["bootstrap", "registry.example.com/Group/fleetingd:2.0"], env);
    assert.deepEqual([again.code, again.stdout], [0, stdout]);
  });

  test("bootstrap into a folder that does not exist names it", async () => {
    const missing = join(directory, "missing");
    const { code, stderr } = await runByHand(["bootstrap", "fleetingd"], { FLEETING_PLUGIN_PATH: missing });
    assert.equal(code, 1);
    assert.ok(stderr.includes(`the folder ${missing} does not exist`), stderr);
  });

  test("a socket folder that can't be used is one sentence, and no handshake", async () => {
    const { code, stdout, stderr } = await runByHand([], {
      FLEETING_INSTANCE_GROUP_PLUGIN: "4c6410b1-cb78-4962-8c76-ab936d0ea908",
      TMPDIR: join(directory, "absent"),
    });
    assert.equal(code, 1);
    assert.equal(stdout, "");
    assert.match(String(JSON.parse(stderr)["@message"]), /could not make a folder for the plugin's socket/);
  });
});
