import assert from "node:assert/strict";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, type TestContext, test } from "node:test";
import { loadConfig } from "../../../src/config/load.ts";

async function folder(context: TestContext, files: Record<string, string>): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), "fleetingd-config-"));
  context.after(() => rm(directory, { recursive: true }));
  for (const [name, text] of Object.entries(files)) {
    await mkdir(join(directory, name, ".."), { recursive: true });
    await writeFile(join(directory, name), text);
  }
  return directory;
}

describe("loadConfig", () => {
  test("reads the main file, then conf.d by name, and nothing that is not .toml", async (context) => {
    const directory = await folder(context, {
      "config.toml": "[pools.ci]\nvm_num_cpu_cores = 3\nvm_memory_mb = 300",
      "conf.d/20-b.toml": "[pools.ci]\nvm_memory_mb = 500",
      "conf.d/10-a.toml": "[pools.ci]\nvm_memory_mb = 400\nvm_disk_size_gb = 5",
      "conf.d/30.toml.disabled": "nonsense",
    });
    const { config, files, notes } = await loadConfig(join(directory, "config.toml"));
    const pool = config.pools["ci"];
    assert.deepEqual([pool?.vcpus, pool?.memoryMiB, pool?.diskSizeGiB], [3, 500, 5]);
    assert.deepEqual(
      files,
      ["config.toml", "conf.d/10-a.toml", "conf.d/20-b.toml"].map((name) => join(directory, name)),
    );
    assert.deepEqual(notes, []);
  });

  test("no file is the defaults and a note, unless a person has named it", async (context) => {
    const directory = await folder(context, { "conf.d/1.toml": "[pools.ci]" });
    const path = join(directory, "config.toml");
    const { config, notes } = await loadConfig(path, { required: false });
    assert.deepEqual(Object.keys(config.pools), ["ci"]);
    assert.equal(notes.length, 1);
    assert.match(notes[0] ?? "", /There is no .*config\.toml: the defaults hold/);
    await assert.rejects(loadConfig(path), { code: "INVALID_CONFIG" });
  });

  test("what cannot be read is an error with its path", async (context) => {
    const directory = await folder(context, { "config.toml/x": "", "conf.d": "" });
    await assert.rejects(loadConfig(join(directory, "config.toml")), {
      code: "INVALID_CONFIG",
      message: `${join(directory, "config.toml")} is a folder, not a file`,
    });
    await assert.rejects(loadConfig(join(directory, "other.toml"), { required: false }), {
      message: `${join(directory, "conf.d")} is not a folder`,
    });
  });
});
