import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, type TestContext, test } from "node:test";
import { promisify } from "node:util";
import fc from "fast-check";
import { parse } from "yaml";
import { type PrebuildInput, renderPrebuildUserData } from "../../../src/cloudinit/prebuild.ts";
import { loadTemplates } from "../../../src/cloudinit/templates.ts";
import { yamlValue } from "../../../src/cloudinit/yaml-text.ts";
import { packageFile } from "../../../src/host/package-root.ts";

const INPUT: PrebuildInput = {
  bootProfile: "fast",
  extraCommands: [],
  packageUpdate: false,
  packageUpgrade: false,
  packages: [],
};
const templates = await loadTemplates();

interface UserData {
  users: Array<{ name: string; sudo: string; lock_passwd: boolean }>;
  packages?: string[];
  package_update: boolean;
  ssh_pwauth: boolean;
  runcmd: string[][];
  write_files: Array<{ path: string; content: string; permissions: string }>;
}

function render(input: Partial<PrebuildInput>): UserData {
  const text = renderPrebuildUserData({ ...INPUT, ...input }, templates);
  assert.match(text, /^#cloud-config\n/);
  return parse(text);
}

function commandsIn(userData: UserData): string[] {
  return userData.write_files.filter(({ path }) => path.includes("/commands/")).map(({ content }) => content);
}

describe("renderPrebuildUserData", () => {
  test("the default user has passwordless sudo and no password", () => {
    const { users, ssh_pwauth: passwords } = render({});
    assert.equal(passwords, false);
    assert.equal(users.length, 1);
    assert.deepEqual(
      [users[0]?.name, users[0]?.sudo, users[0]?.lock_passwd],
      ["ubuntu", "ALL=(ALL) NOPASSWD:ALL", true],
    );
  });

  test("nothing needs a network unless it is asked for", () => {
    assert.deepEqual([render({}).packages, render({}).package_update], [undefined, false]);
    const asked = render({ packages: ["git", "build-essential"], packageUpdate: true });
    assert.deepEqual([asked.packages, asked.package_update], [["git", "build-essential"], true]);
  });

  test("programs are told of the host's services, which the image does not depend on", () => {
    const file = (userData: UserData, path: string) =>
      userData.write_files.find((one) => one.path === path)?.content ?? "";
    const made = render({
      registryMirror: "http://169.254.0.1:5000",
      packageCache: "http://169.254.0.1:3142",
    });
    const docker = JSON.parse(file(made, "/run/fleetingd-prebuild/docker-daemon.json"));
    assert.deepEqual(docker, { "registry-mirrors": ["http://169.254.0.1:5000"] });
    assert.match(made.runcmd[1]?.[2] ?? "", /^\[ -e \/etc\/docker\/daemon.json \] \|\| /);
    assert.match(
      file(made, "/etc/containers/registries.conf.d/50-fleetingd.conf"),
      /location = "169.254.0.1:5000"/,
    );
    assert.match(
      file(made, "/usr/lib/fleetingd/package-cache"),
      /\/dev\/tcp\/169.254.0.1\/3142.*echo http:\/\/169.254.0.1:3142; else echo DIRECT/,
    );
    assert.doesNotMatch(JSON.stringify(render({})), /169\.254|docker|package-cache/);
  });

  test("guest files arrive byte for byte", () => {
    const identity = render({}).write_files.find(({ path }) => path === "/usr/lib/fleetingd/identity");
    assert.equal(identity?.content, templates.guest.identity);
    assert.equal(identity?.permissions, "0755");
  });

  test("a compatible image has nothing of the fast boot", () => {
    const paths = render({ bootProfile: "compatible" }).write_files.map(({ path }) => path);
    assert.ok(paths.includes("/usr/lib/fleetingd/ready"));
    assert.equal(
      paths.some((path) => /identity|early|ssh|template/.test(path)),
      false,
    );
  });

  test("commands keep their order and every character", () => {
    const commands = [
      "echo 'single' \"double\" `back` $(sub) \\",
      "a: b # not a comment",
      "{{mustache}} {{{three}}} {{#if}}",
      "first line\nsecond line\n\tthird",
      "- [list, {map: x}]",
      "ümläut 漢字 😀 \u0085 \u2028 \ufeff \u007f",
      "&anchor *alias !tag |literal >folded %directive @at",
    ];
    assert.deepEqual(
      commandsIn(render({ extraCommands: commands })),
      commands.map((command) => `${command}\n`),
    );
  });

  test("any text is one value in YAML", () => {
    fc.assert(fc.property(fc.string({ unit: "binary" }), (text) => parse(yamlValue(text)) === text));
    fc.assert(fc.property(fc.string({ unit: "binary" }), (text) => /^[\x20-\x7e]*$/.test(yamlValue(text))));
  });

  test("the same input gives the same text", () => {
    assert.equal(renderPrebuildUserData(INPUT, templates), renderPrebuildUserData({ ...INPUT }, templates));
  });
});

/** Runs the guest's script on the host, on commands in a folder of its own. */
async function runCommands(
  t: TestContext,
  commands: string[],
  path = "",
): Promise<Array<{ code: string; out: string }>> {
  const directory = await mkdtemp(join(tmpdir(), "fleetingd-test-"));
  t.after(() => rm(directory, { recursive: true }));
  for (const { content, path } of render({ extraCommands: commands }).write_files) {
    if (path.includes("/commands/")) await writeFile(join(directory, path.slice(-7)), content);
  }
  const script = await packageFile("templates/guest/prebuild-commands");
  const env = { ...process.env, PATH: `${path}:${process.env["PATH"]}` };
  await promisify(execFile)("sh", [script, directory], { env });
  const results: Array<{ code: string; out: string }> = [];
  for (const name of (await readdir(directory)).filter((file) => file.endsWith(".code")).sort()) {
    const code = (await readFile(join(directory, name), "utf8")).trim();
    results.push({ code, out: await readFile(join(directory, name.replace("code", "out")), "utf8") });
  }
  return results;
}

describe("the guest's command runner", () => {
  test("directory, variables and functions persist from command to command", async (t) => {
    const results = await runCommands(t, [
      "cd /usr; X='a  b'; export Y=é; f() { echo in f; }",
      "pwd; echo \"$X\"; f; sh -c 'echo $Y'",
      "echo $DEBIAN_FRONTEND $HOME; cat",
    ]);
    assert.deepEqual(results, [
      { code: "0", out: "" },
      { code: "0", out: "/usr\na  b\nin f\né\n" },
      { code: "0", out: "noninteractive /root\n" },
    ]);
  });

  test("commands that use apt find fresh package lists, and others wait for none", async (t) => {
    const bin = await mkdtemp(join(tmpdir(), "fleetingd-test-"));
    t.after(() => rm(bin, { recursive: true }));
    await writeFile(join(bin, "apt-get"), `#!/bin/sh\necho "$*" >>${bin}/calls\n`, { mode: 0o755 });
    await runCommands(t, ["echo no adaptation"], bin);
    await runCommands(t, ["true", "apt-get install -y podman"], bin);
    const calls = (await readFile(join(bin, "calls"), "utf8")).split("\n");
    assert.deepEqual(calls.slice(0, 2), ["--quiet update", "install -y podman"]);
  });

  test("the first failure ends it, with its code and output", async (t) => {
    const results = await runCommands(t, ["true", "echo out; echo err >&2; (exit 7)", "echo never"]);
    assert.deepEqual(results, [
      { code: "0", out: "" },
      { code: "7", out: "out\nerr\n" },
    ]);
  });

  test("a command that ends the shell is a command with that exit code", async (t) => {
    assert.deepEqual(await runCommands(t, ["echo bye; exit 9", "echo never"]), [{ code: "9", out: "bye\n" }]);
    assert.equal((await runCommands(t, ["set -e", "false; true", "echo never"])).at(-1)?.code, "1");
  });

  test("a syntax error fails its command and says so", async (t) => {
    const results = await runCommands(t, ["true", "if then", "echo never"]);
    assert.equal(results.length, 2);
    assert.notEqual(results[1]?.code, "0");
    assert.match(results[1]?.out ?? "", /[Ss]yntax error/);
  });

  test("no commands, no results", async (t) => assert.deepEqual(await runCommands(t, []), []));
});
