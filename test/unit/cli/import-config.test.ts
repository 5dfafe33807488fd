/** What other plugins' examples become is the pool that they are by themselves, and `fleetingd config check` takes it. */
import assert from "node:assert/strict";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { configCheck } from "../../../src/cli/config-check.ts";
import type { CliContext } from "../../../src/cli/context.ts";
import { type Import, importSchema, type Note } from "../../../src/cli/import/answer.ts";
import { type ImportHost, importRunners } from "../../../src/cli/import/import.ts";
import { renderImport } from "../../../src/cli/import/render.ts";
import { importConfig } from "../../../src/cli/import-config.ts";
import { parsePluginConfig } from "../../../src/config/plugin-config.ts";
import { plainValue, readToml } from "../../../src/config/toml.ts";
import { parseConfig } from "../../../src/config.ts";
import { FLEETINGD, INCUS, LIBVIRT_EXECUTOR, OPENSTACK, VCD } from "../../helpers/seed-examples.ts";

const HOST: ImportHost = { baseImages: [], program: "/usr/bin/fleetingd" };
const FILE = "config.toml";
const NOTHING = parseConfig([]);

/** A runner's configuration around a `plugin_config`. */
function runnerOf(plugin: string, pluginConfig: string, name = "manager"): string {
  const inIts = pluginConfig.replaceAll("[server_spec]", "[runners.autoscaler.plugin_config.server_spec]");
  return `
[[runners]]
  name = "${name}"
  token = "glrt-not-to-be-printed"
  [runners.autoscaler]
    plugin = "${plugin}"
    max_instances = 3
  [runners.autoscaler.plugin_config]
${inIts}
`;
}

function plain(toml: string): Record<string, unknown> {
  const result = readToml(FILE, toml);
  assert.ok("table" in result);
  return JSON.parse(JSON.stringify(plainValue(result.table)));
}

const read = (text: string, host = HOST): Import => importRunners(FILE, text, host);
const print = (text: string, host = HOST): string => `${renderImport(FILE, read(text, host)).join("\n")}\n`;
const poolsOf = (toml: string) => parseConfig([{ path: FILE, text: toml }]).pools;

/** What the plugin itself would say of the pool, with its source called as in the import. */
function inlinePool(pluginConfig: Record<string, unknown>, source: string) {
  const { pool } = parsePluginConfig(JSON.stringify(pluginConfig), NOTHING);
  const sources = pool.sources.map((one) => (one.config === undefined ? one : { ...one, name: source }));
  return { ...pool, sources };
}

function noteOn(made: Import, key: string, runner = 0): Note {
  const note = made.runners[runner]?.notes.find((one) => one.key === key);
  assert.ok(note, key);
  return note;
}

describe("an example", () => {
  const examples: Record<string, { plugin: string; toml: string; instead?: Record<string, unknown> }> = {
    "fleeting-plugin-fleetingd": { plugin: "fleeting-plugin-fleetingd", toml: FLEETINGD },
    "fleeting-plugin-incus": { plugin: "fleeting-plugin-incus", toml: INCUS },
    "fleeting-plugin-openstack": {
      plugin: "ghcr.io/sardinasystems/fleeting-plugin-openstack:latest",
      toml: OPENSTACK,
    },
    "fleeting-plugin-vcd": {
      plugin: "/opt/incus/fleeting-plugin-vcd",
      toml: VCD,
      instead: { token: undefined, token_file: "/etc/fleetingd/manager-token" },
    },
  };
  for (const [name, { plugin, toml, instead }] of Object.entries(examples)) {
    test(`of ${name} becomes the pool that it is by itself, with a note on each key`, () => {
      const given = plain(toml);
      const text = runnerOf(plugin, toml);
      const made = read(text);
      const { manager } = poolsOf(print(text));
      assert.deepEqual(manager, inlinePool({ ...given, ...instead }, "manager"));
      const lines = text.split("\n");
      for (const key of Object.keys(given)) {
        const { line } = noteOn(made, key);
        assert.ok(line !== null && lines[line - 1]?.includes(key), `${key}: ${line}`);
      }
      // What is left of plugin_config means that pool, and says the rest of what it said.
      const config = parseConfig([{ path: FILE, text: print(text) }]);
      const instead_ = plain(made.runners[0]?.runnerConfig ?? "");
      const { autoscaler } = instead_["runners"] as {
        autoscaler: { plugin_config: unknown; plugin: string };
      };
      assert.equal(autoscaler.plugin, "fleeting-plugin-fleetingd");
      const now = parsePluginConfig(JSON.stringify(autoscaler.plugin_config), config);
      const before_ = parsePluginConfig(JSON.stringify(given), NOTHING);
      assert.deepEqual(
        [now.poolName, now.inline, now.group, now.debugListen],
        ["manager", false, before_.group, before_.debugListen],
      );
    });
  }

  const executor = (args = '[ "prepare" ]'): string =>
    `concurrent = 7\n[[runners]]\n  [runners.custom]\n${LIBVIRT_EXECUTOR.replace('[ "prepare" ]', args)}`;
  const libvirt = (distro: string) => ({
    libvirt_image: `${distro}.qcow2`,
    libvirt_size: "c4-m8",
    libvirt_disk_size: "50GiB",
    username: "root",
    max_instances: 7,
  });

  test("of libvirt-gitlab-executor becomes a pool for each base image, and its arguments ours", () => {
    const text = executor('[ "--debug", "prepare", "--distro=fedora-34", "--ssh-key-file", "/home/ci/key" ]');
    const host = { ...HOST, baseImages: ["debian-12.qcow2", "fedora-34.qcow2", "README"] };
    const made = read(text, host);
    const pools = poolsOf(print(text, host));
    assert.deepEqual(Object.keys(pools), ["fedora-34", "debian-12"]);
    for (const distro of Object.keys(pools))
      assert.deepEqual(pools[distro], inlinePool(libvirt(distro), distro));
    const [runner] = made.runners;
    const { custom } = plain(runner?.runnerConfig ?? "")["runners"] as { custom: Record<string, unknown> };
    assert.equal(custom["prepare_exec"], HOST.program);
    assert.deepEqual(custom["prepare_args"], [
      ...["executor", "--debug", "prepare", "--distro=fedora-34", "--ssh-key-file", "/home/ci/key"],
    ]);
    assert.deepEqual(custom["run_args"], ["executor", "run", "--script"]);
    assert.deepEqual(custom["cleanup_args"], ["executor", "cleanup"]);
    assert.match(
      runner?.notes.map(({ text: what }) => what).join("\n") ?? "",
      /--ssh-key-file has no meaning/,
    );
  });

  test("of libvirt-gitlab-executor as it stands says what is missing, and which names jobs have to change", () => {
    const made = read(executor());
    assert.match(made.runners[0]?.notes.map(({ text }) => text).join("\n") ?? "", /name yours as image/);
    assert.deepEqual(poolsOf(print(executor()))["default"], inlinePool(libvirt("default"), "default"));
    const renamed = read(executor(), { ...HOST, baseImages: ["Fedora_34.qcow2"] });
    assert.deepEqual(renamed.runners[0]?.pools, ["fedora-34"]);
    assert.match(
      renamed.runners[0]?.notes.map(({ text }) => text).join("\n") ?? "",
      /jobs that say DISTRO = "Fedora_34" have to say "fedora-34"/,
    );
  });
});

describe("several runners", () => {
  const text = [
    runnerOf("fleeting-plugin-incus", INCUS, "CI / small"),
    runnerOf("fleeting-plugin-vcd", VCD, "CI / small"),
    runnerOf("fleeting-plugin-aws", "  name = 'asg'", "cloud"),
    runnerOf("fleeting-plugin-fleetingd", "  pool = 'ci'", "done"),
    runnerOf("fleeting-plugin-fleetingd", "  vm_num_cpu_cores = 4", "local"),
    '[[runners]]\n  name = "docker"\n  executor = "docker"\n',
  ].join("");

  test("become as many pools, each with a name that it can have", () => {
    const made = read(text);
    assert.deepEqual(
      made.runners.map(({ name, pools }) => [name, pools]),
      [
        ["CI / small", ["ci-small"]],
        ["CI / small", ["ci-small-2"]],
        ["cloud", []],
        ["done", []],
        ["local", ["local-2"]],
      ],
    );
    const config = parseConfig([{ path: FILE, text: print(text) }]);
    assert.deepEqual(Object.keys(config.pools), ["ci-small", "ci-small-2", "local-2"]);
    assert.deepEqual(Object.keys(config.sources), ["ci-small", "ci-small-2"]);
    assert.match(noteOn(made, "plugin", 2).text, /nothing can be imported from fleeting-plugin-aws/);
    assert.match(noteOn(made, "pool", 3).text, /uses a pool of the daemon's configuration already/);
  });

  test("have all their errors told at once, each with its line", () => {
    const broken = text
      .replace("incus_disk_size", "incus_disk_sise")
      .replace("cpu_count = 4", "cpu_count = 'four'");
    const lineOf = (word: string): number => broken.split("\n").findIndex((line) => line.includes(word)) + 1;
    const at = (line: number, what: string): RegExp =>
      new RegExp(`config\\.toml:${line}: runners\\[\\d\\]\\.autoscaler\\.plugin_config\\.${what}`);
    assert.throws(
      () => read(broken),
      at(lineOf("incus_disk_sise"), 'incus_disk_sise: there is no such key; did you mean "incus_disk_size"'),
    );
    assert.throws(() => read(broken), at(lineOf("'four'"), "cpu_count: expected a whole number"));
  });
});

describe("a secret", () => {
  const toml = `${runnerOf(
    "fleeting-plugin-openstack",
    `${OPENSTACK}adminPass = "geheim-1"\n[runners.autoscaler.connector_config]\npassword = "geheim-2"\nuse_static_credentials = true\n`,
  )}${runnerOf("fleeting-plugin-vcd", `${VCD}admin_password = "geheim-3"`)}${runnerOf(
    "fleeting-plugin-fleetingd",
    "vm_prebuild_cloudinit_extra_cmds = ['git clone https://ci:geheim-4@example.org/x', 'docker login -p glpat-geheim-5abc']",
  )}`;

  test("is never printed, and where it belongs is said", () => {
    const made = read(toml);
    for (const text of [print(toml), JSON.stringify(made)]) {
      assert.doesNotMatch(text, /geheim|your-api-token|not-to-be-printed/);
      assert.match(text, /git clone https:\/\/ci:\[redacted\]@example\.org\/x/);
    }
    poolsOf(print(toml));
    const [openstack] = made.runners;
    assert.ok(!JSON.stringify(made.config.sources["manager"]).includes("adminPass"));
    assert.match(noteOn(made, "server_spec").text, /\/etc\/fleetingd\/conf\.d\/manager\.toml/);
    assert.match(noteOn(made, "connector_config.password").text, /leave it out/);
    assert.equal(openstack?.notes.filter(({ fate }) => fate === "to-do").length, 3);
    assert.match(noteOn(made, "token", 1).text, /write it into \/etc\/fleetingd\/manager-2-token/);
    assert.equal(
      made.config.sources["manager-2"]?.["admin_password_file"],
      "/etc/fleetingd/manager-2-admin-password",
    );
    assert.match(noteOn(made, "vm_prebuild_cloudinit_extra_cmds", 2).text, /looks like a secret/);
  });
});

test("docs/migration.md shows what it prints", async () => {
  const page = await readFile(join(import.meta.dirname, "../../../docs/migration.md"), "utf8");
  const [, file = "", printed] = /^\$ fleetingd import-config (\S+)\n(.*?)^```$/ms.exec(page) ?? [];
  const text = `concurrent = 5

[[runners]]
  name = "small"
  executor = "docker-autoscaler"
  [runners.autoscaler]
    plugin = "fleeting-plugin-incus"
    max_instances = 5
    max_use_count = 1
    [runners.autoscaler.plugin_config]
      incus_image = "runner-base"
      incus_instance_size = "c2-m4"
      incus_delete_only_own_vms = true
      max_instances = 5

    [runners.autoscaler.connector_config]
      username = "root"
      key_path = "/root/.ssh/id"
`;
  assert.equal(`${renderImport(file, importRunners(file, text, HOST)).join("\n")}\n`, printed);
});

describe("what is to be done", () => {
  test("is said of a folder that the daemon can't use, and of more instances than the pool may have", () => {
    assert.match(
      noteOn(read(runnerOf("x-fleetingd", FLEETINGD)), "vm_disk_directory").text,
      /choose another/,
    );
    const made = read(
      runnerOf("fleeting-plugin-incus", INCUS.replace("max_instances = 5", "max_instances = 2")),
    );
    assert.match(noteOn(made, "autoscaler.max_instances").text, /lower it to 2/);
    const allowed = read(runnerOf("fleeting-plugin-incus", 'incus_image = "a"'));
    assert.equal(noteOn(allowed, "incus_disk_size").line, null);
    assert.match(noteOn(allowed, "incus_disk_size").text, /disk_size = "10GiB"/);
  });

  test("is a plugin's own even where no key is: its defaults are", () => {
    const made = read(runnerOf("fleeting-plugin-incus", "max_instances = 3"));
    assert.equal(made.config.sources["manager"]?.["type"], "incus");
  });

  test("is the same for a part of the file, and for a plugin that stands one level above", () => {
    const [, part = ""] = runnerOf("fleeting-plugin-incus", INCUS).split("max_instances = 3\n");
    assert.deepEqual(read(part).runners[0]?.pools, ["default"]);
    const above = runnerOf("fleeting-plugin-vcd", VCD)
      .replace('    plugin = "fleeting-plugin-vcd"\n', "")
      .replace("  token =", '  plugin = "fleeting-plugin-vcd"\n  token =');
    assert.equal(read(above).runners[0]?.from, "fleeting-plugin-vcd");
  });
});

describe("fleetingd import-config", () => {
  let directory: string;
  before(async () => {
    directory = await mkdtemp(join(tmpdir(), "fleetingd-import-"));
  });
  after(() => rm(directory, { recursive: true, force: true }));

  const runImport = async (file: string, json = false): Promise<string> => {
    const lines: string[] = [];
    const context = {
      out: (line: string) => lines.push(line),
      err: () => undefined,
    } as unknown as CliContext;
    assert.equal(await importConfig({ config: "", file, json }, context), 0);
    return `${lines.join("\n")}\n`;
  };

  test("prints what `fleetingd config check` takes, and JSON as its schema says", async () => {
    const file = join(directory, "config.toml");
    await writeFile(file, runnerOf("fleeting-plugin-openstack", OPENSTACK));
    const path = join(directory, "fleetingd.toml");
    await writeFile(path, await runImport(file));
    const said: string[] = [];
    const context = { out: (line: string) => said.push(line), err: () => undefined } as unknown as CliContext;
    assert.equal(await configCheck({ config: path }, context), 0);
    assert.match(said.join("\n"), /pool manager: .*\nThe configuration is valid\./);
    const answer: unknown = JSON.parse(await runImport(file, true));
    assert.deepEqual(importSchema.parse(answer), answer);
  });

  test("says in a sentence why there is nothing to print", async () => {
    const at = async (text: string): Promise<string> => {
      const file = join(directory, "other.toml");
      await writeFile(file, text);
      return file;
    };
    await assert.rejects(runImport(join(directory, "none")), /there is no file .*none\./);
    await assert.rejects(runImport(directory), /can't be read/);
    await assert.rejects(runImport(await at("a = 1\nb = ")), /other\.toml:2: /);
    await assert.rejects(
      runImport(await at("[[runners]]\nname = 'x'\n")),
      /there is nothing to import in .*other/,
    );
    await assert.rejects(runImport(await at("")), /there is nothing to import/);
    await assert.rejects(
      runImport(await at("[[runners]]\n[runners.autoscaler]\nplugin = 7\n")),
      /other\.toml:3: .*plugin.*expected a string/,
    );
  });
});
