import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { parseConfig } from "../../../src/config.ts";
import { compareConfigs } from "../../../src/daemon/reload.ts";

const config = (text: string) => parseConfig([{ path: "config.toml", text }]);

describe("a changed configuration", () => {
  test("counts and times take effect at once", () => {
    const before = config("[pools.ci]\nwarm_instances = 1");
    const after = config(
      '[pools.ci]\nwarm_instances = 3\nmax_instances = 9\nmax_idle_age = "1h"\nheartbeat_timeout = "1m"\norphan_timeout = "2m"',
    );
    const { kept, notes } = compareConfigs(before, after);
    assert.deepEqual(notes, []);
    assert.deepEqual(kept, [["ci", after.pools["ci"]]]);
  });

  test("what is built into VMs stays as it was, and is named", () => {
    const after = config("[pools.ci]\nwarm_instances = 3\nvm_memory_mb = 4096");
    const { kept, notes } = compareConfigs(config("[pools.ci]"), after);
    assert.match(notes.join(), /pool ci: vm_memory_mb has changed.*restart/);
    const [, pool] = kept[0] ?? [];
    assert.equal(pool?.warmInstances, 3);
    assert.equal(pool?.memoryMiB, 2048);
  });

  test("an image of the same name that is another one counts as a change", () => {
    const before = config('[pools.ci]\nimage = "a"\n[images.a]\ntype = "auto"');
    const after = config('[pools.ci]\nimage = "a"\n[images.a]\ntype = "debian-packages"');
    assert.match(compareConfigs(before, after).notes.join(), /pool ci: image has changed/);
  });

  test("pools come and go", () => {
    const { added, removed, notes } = compareConfigs(config("[pools.old]"), config("[pools.new]"));
    assert.deepEqual(
      added.map(([name]) => name),
      ["new"],
    );
    assert.deepEqual(removed, ["old"]);
    assert.match(notes.join(), /pool old is not configured any more/);
  });

  test("the daemon's own keys need a restart", () => {
    const after = config('[daemon]\nlog_level = "debug"');
    assert.match(compareConfigs(config(""), after).notes.join(), /\[daemon\].*restart/);
  });
});
