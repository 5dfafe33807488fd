import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { parseConfig } from "../../../src/config.ts";
import { policyOf } from "../../../src/daemon/pool-policy.ts";
import { compareConfigs } from "../../../src/daemon/reload.ts";
import { PRIVATE_PREFIXES } from "../../../src/network/policy.ts";

const config = (text: string) => parseConfig([{ path: "config.toml", text }]);
const DNS = { name: "dns", address: "127.0.0.1", port: 53 } as const;
const MIRROR = { name: "registry_mirror", address: "127.0.0.1", port: 5000 } as const;

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

  test("so do a pool's rules on the network", () => {
    const after = config(
      '[pools.ci]\negress = "none"\negress_deny = ["private"]\negress_allow = ["10.1.2.0/24 tcp/443"]\nhost_services = ["tcp/5000"]\nservices = ["dns"]\nbandwidth_up_mbit = 8\nbandwidth_down_mbit = 16\nmax_connections = 100\nmax_new_connections_per_second = 10',
    );
    const { kept, notes } = compareConfigs(config("[pools.ci]"), after);
    assert.deepEqual(notes, []);
    const pool = kept[0]?.[1] ?? assert.fail();
    assert.deepEqual(policyOf("ci", pool, [DNS, MIRROR]), {
      name: "ci",
      egress: "none",
      deny: PRIVATE_PREFIXES,
      allow: [{ prefix: "10.1.2.0/24", ports: { protocol: "tcp", first: 443, last: 443 } }],
      hostServices: [{ protocol: "tcp", first: 5000, last: 5000 }],
      services: [DNS],
      upBytesPerSecond: 1_000_000,
      downBytesPerSecond: 2_000_000,
      maxConnections: 100,
      newConnectionsPerSecond: 10,
    });
  });

  test("a pool has all services of the host, one without a way out none, unless it names them", () => {
    const names = (keys: string): string[] =>
      policyOf("ci", config(`[pools.ci]\n${keys}`).pools["ci"] ?? assert.fail(), [DNS, MIRROR]).services.map(
        ({ name }) => name,
      );
    assert.deepEqual(names(""), ["dns", "registry_mirror"]);
    assert.deepEqual(names('egress = "none"'), []);
    assert.deepEqual(names('egress = "none"\nservices = ["registry_mirror"]'), ["registry_mirror"]);
    assert.deepEqual(names("services = []"), []);
    const { notes } = compareConfigs(config(""), config('[services]\ndns = "127.0.0.1:53"'));
    assert.match(notes.join(), /\[services\]: dns has changed/);
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

  test("the daemon's own keys and those of sources need a restart, and are named", () => {
    const after = config(
      '[daemon]\nlog_level = "debug"\nmemory_reserve_mb = 1024\n[sources.cloud]\ntype = "incus"\nimage = "debian"',
    );
    assert.deepEqual(compareConfigs(config(""), after).notes, [
      "[daemon]: log_level, memory_reserve_mb have changed, which takes effect with a restart",
      "[sources]: cloud has changed, which takes effect with a restart",
    ]);
  });
});
