import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import { parsePluginConfig } from "../../../src/config/plugin-config.ts";
import type { Config } from "../../../src/config/types.ts";
import { parseConfig } from "../../../src/config.ts";
import { FleetingdError } from "../../../src/errors.ts";

const NO_POOLS = parseConfig([]);
const TWO_POOLS = configOf(`
[pools.default]
vm_memory_mb = 1024
[pools.ci]
vm_memory_mb = 8192
vm_subnet = "10.99.0.0/20"
max_instances = 500
warm_instances = 100
boot_timeout = "2m"
dns_servers = ["9.9.9.9"]
`);

function configOf(text: string): Config {
  return parseConfig([{ path: "config.toml", text }]);
}

function read(value: unknown, config = NO_POOLS) {
  return parsePluginConfig(JSON.stringify(value), config);
}

function errorsOf(json: string, config = NO_POOLS): string[] {
  try {
    parsePluginConfig(json, config);
  } catch (error) {
    assert.ok(error instanceof FleetingdError, String(error));
    assert.equal(error.code, "INVALID_CONFIG");
    return error.message.split("\n");
  }
  return assert.fail("the configuration was accepted");
}

describe("inline keys", () => {
  test("the settings that the original plugin documents are taken unchanged", () => {
    const { pool, inline, poolName } = read({
      egress_interface: "eth0",
      vm_disk_directory: "/tmp/fleetingd",
      vm_subnet: "172.16.120.",
      vm_num_cpu_cores: 8,
      vm_memory_mb: 16384,
      vm_disk_size_gb: 30,
      vm_prebuild_cloudinit_extra_cmds: [
        "apt install -y --no-install-recommends git build-essential",
        'su - ubuntu -c "whoami"',
      ],
      vm_enable_virtio_console: false,
    });
    assert.equal(inline, true);
    assert.match(poolName, /^inline-[0-9a-f]{12}$/);
    assert.equal(pool.egressInterface, "eth0");
    assert.equal(pool.diskDirectory, "/tmp/fleetingd");
    assert.deepEqual(pool.subnet, { cidr: "172.16.120.0/24", slotCount: 64 });
    assert.equal(pool.vcpus, 8);
    assert.equal(pool.memoryMiB, 16384);
    assert.equal(pool.diskSizeGiB, 30);
    assert.equal(pool.prebuildExtraCommands[1], 'su - ubuntu -c "whoami"');
    assert.equal(pool.enableVirtioConsole, false);
    assert.equal(pool.maxInstances, 63);
  });

  test("commands keep every character", () => {
    const commands = [
      '"echo \\"{ \\\\\\"features\\\\\\": { \\\\\\"buildkit\\\\\\": true } }\\" | tee -a /etc/docker/daemon.json"',
      "echo {{ x }} # ü\n: 'y'",
    ];
    assert.deepEqual(
      read({ vm_prebuild_cloudinit_extra_cmds: commands }).pool.prebuildExtraCommands,
      commands,
    );
  });

  test("the same keys give the same name in any order and any form, others another", () => {
    const one = read({ vm_memory_mb: 512, vm_subnet: "172.16.121." });
    assert.equal(read({ vm_subnet: "172.16.121.0/24", vm_memory_mb: 512 }).poolName, one.poolName);
    assert.notEqual(read({ vm_subnet: "172.16.121.0/24", vm_memory_mb: 513 }).poolName, one.poolName);
  });

  test("what does not fit is an error here as well", () => {
    assert.deepEqual(errorsOf('{"warm_instances": 5, "max_instances": 2, "image": "noble"}'), [
      "plugin_config: warm_instances: 5 is more than max_instances, which is 2; lower it or raise max_instances",
      'plugin_config: image: there is no image "noble" in [images]; did you mean "default"?',
    ]);
  });
});

describe("which pool", () => {
  for (const json of [undefined, "", "null", "{}", '{"group":"a","socket":"/run/x.sock"}']) {
    test(`${json ?? "nothing"} is the pool "default" where there is one`, () => {
      const result = parsePluginConfig(json, TWO_POOLS);
      assert.equal(result.poolName, "default");
      assert.equal(result.inline, false);
      assert.equal(result.pool, TWO_POOLS.pools["default"]);
    });
    test(`${json ?? "nothing"} is a pool of defaults where there is none`, () => {
      const result = parsePluginConfig(json, NO_POOLS);
      assert.equal(result.inline, true);
      assert.equal(result.pool.memoryMiB, 2048);
    });
  }

  test("a named pool, and its group", () => {
    const result = read({ pool: "ci", group: "team-a" }, TWO_POOLS);
    assert.deepEqual(
      { ...result, pool: undefined },
      { poolName: "ci", pool: undefined, inline: false, group: "team-a", debugListen: undefined },
    );
    assert.equal(result.pool, TWO_POOLS.pools["ci"]);
  });

  test("the address of a debug server, on the loopback alone", () => {
    const listen = (address: string) =>
      read({ pool: "ci", debug_server_addr: address }, TWO_POOLS).debugListen;
    assert.deepEqual(listen("127.0.0.1:27060"), { host: "127.0.0.1", port: 27_060 });
    assert.deepEqual(listen("localhost:27060"), { host: "127.0.0.1", port: 27_060 });
    assert.deepEqual(listen("[::1]:27060"), { host: "::1", port: 27_060 });
    assert.equal(listen(""), undefined);
    for (const wrong of [
      ":27060",
      "0.0.0.0:27060",
      "192.0.2.1:27060",
      "127.0.0.1:80",
      "127.0.0.1:70000",
      "127.0.0.1",
    ])
      assert.throws(() => listen(wrong), /debug_server_addr: expected an address of the loopback/);
  });

  test("keys beside a named pool may confirm it, in any form", () => {
    const given = {
      pool: "ci",
      max_instances: 500,
      vm_subnet: "10.99.0.0/20",
      boot_timeout: 120,
      dns_servers: ["9.9.9.9"],
    };
    assert.equal(read(given, TWO_POOLS).pool, TWO_POOLS.pools["ci"]);
  });

  test("a contradiction names both values", () => {
    const given = {
      pool: "ci",
      vm_memory_mb: 4096,
      boot_timeout: "90s",
      dns_servers: [],
      vm_subnet: "172.16.120.",
    };
    assert.deepEqual(errorsOf(JSON.stringify(given), TWO_POOLS), [
      'plugin_config: vm_memory_mb: 4096 contradicts the pool "ci" of the daemon\'s configuration, where it is 8192; leave it out here, or change one of them',
      'plugin_config: vm_subnet: "172.16.120.0/24" contradicts the pool "ci" of the daemon\'s configuration, where it is "10.99.0.0/20"; leave it out here, or change one of them',
      'plugin_config: dns_servers: [] contradicts the pool "ci" of the daemon\'s configuration, where it is ["9.9.9.9"]; leave it out here, or change one of them',
      'plugin_config: boot_timeout: "1m30s" contradicts the pool "ci" of the daemon\'s configuration, where it is "2m"; leave it out here, or change one of them',
    ]);
  });

  test("a pool that there is not", () => {
    assert.deepEqual(errorsOf('{"pool":"cii"}', TWO_POOLS), [
      'plugin_config: pool: there is no pool "cii" in the daemon\'s configuration; did you mean "ci"?',
    ]);
    assert.match(errorsOf('{"pool":"constructor"}')[0] ?? "", /it has no pools at all/);
  });
});

describe("errors", () => {
  test("all at once", () => {
    assert.deepEqual(
      errorsOf(
        '{"vm_memory_mb":"8","vm_num_cpu_core":2,"group":"a/b","pool":7,"vm_enable_virtio_console":null}',
      ),
      [
        'plugin_config: vm_num_cpu_core: there is no such key; did you mean "vm_num_cpu_cores"?',
        'plugin_config: pool: expected a string, but this is 7; write "7"',
        'plugin_config: group: expected a name of 1 to 64 of a-z, A-Z, 0-9, ., _ and -, but this is "a/b"',
        'plugin_config: vm_memory_mb: expected a whole number, but this is "8", a string; write 8 without quotes',
        "plugin_config: vm_enable_virtio_console: expected true or false, but this is null",
      ],
    );
  });

  for (const json of ["{", "[]", "3", '"x"', "true", "[".repeat(100_000)]) {
    test(`${json.slice(0, 10)} is no table`, () => assert.equal(errorsOf(json).length, 1));
  }

  test("a thousand errors are not all told", () => {
    const many = Object.fromEntries(Array.from({ length: 1000 }, (_, index) => [`key${index}`, index]));
    assert.equal(errorsOf(JSON.stringify(many)).at(-1), "… and 900 more");
  });
});

describe("whatever comes in", () => {
  const keys = fc.constantFrom(
    "pool",
    "group",
    "vm_memory_mb",
    "dns_servers",
    "vm_subnet",
    "boot_timeout",
    "image",
    "x",
    "__proto__",
  );
  const tables = fc.dictionary(fc.oneof(keys, fc.string()), fc.jsonValue());

  test("there is either a pool or one error of which every line names plugin_config", () => {
    const texts = fc.oneof(
      fc.json(),
      fc.string(),
      tables.map((table) => JSON.stringify(table)),
    );
    fc.assert(
      fc.property(texts, fc.boolean(), (json, hasPools) => {
        try {
          const { pool, poolName } = parsePluginConfig(json, hasPools ? TWO_POOLS : NO_POOLS);
          assert.ok(pool.maxInstances >= pool.warmInstances);
          assert.match(poolName, /^[a-z0-9-]{1,32}$/);
        } catch (error) {
          assert.ok(error instanceof FleetingdError, String(error));
          assert.equal(error.code, "INVALID_CONFIG");
          for (const line of error.message.split("\n"))
            assert.match(line, /^(plugin_config: |… and \d+ more)/);
        }
      }),
      { numRuns: 2000 },
    );
  });

  test("the daemon's own files are a configuration or one error, too", () => {
    const value = fc
      .oneof(fc.string(), fc.integer(), fc.double(), fc.boolean(), fc.array(fc.string()))
      .map((item) => JSON.stringify(item));
    const line = fc.oneof(
      fc.constantFrom("[daemon]", "[pools.a]", "[images.a]", "[[pools]]", "type = 'files'", "[x"),
      fc.string(),
      fc.tuple(keys, value).map(([name, text]) => `${name} = ${text}`),
    );
    fc.assert(
      fc.property(fc.array(line, { maxLength: 12 }), (lines) => {
        try {
          parseConfig([{ path: "c.toml", text: lines.join("\n") }]);
        } catch (error) {
          assert.ok(error instanceof FleetingdError, String(error));
          for (const one of error.message.split("\n")) assert.match(one, /^c\.toml:\d+: /);
        }
      }),
      { numRuns: 2000 },
    );
  });
});
