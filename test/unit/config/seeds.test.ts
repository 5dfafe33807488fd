/** What other fleeting plugins print as their example is taken by this one as it stands. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { parsePluginConfig } from "../../../src/config/plugin-config.ts";
import { plainValue, readToml } from "../../../src/config/toml.ts";
import { parseConfig } from "../../../src/config.ts";
import { FLEETINGD, INCUS, OPENSTACK, VCD } from "../../helpers/seed-examples.ts";

const NOTHING = parseConfig([]);

function exampleOf(text: string): unknown {
  const result = readToml("example", text);
  assert.ok("table" in result);
  return JSON.parse(JSON.stringify(plainValue(result.table)));
}

describe("fleeting-plugin-openstack's example", () => {
  const example = exampleOf(OPENSTACK) as Record<string, unknown>;
  const read = (more: Record<string, unknown> = {}) =>
    parsePluginConfig(JSON.stringify({ ...example, ...more }), NOTHING);

  test("means a pool in that cloud", () => {
    const { pool, inline, group } = read();
    assert.equal(inline, true);
    assert.equal(group, "scaling-runner-stack-id");
    assert.deepEqual([pool.warmInstances, pool.maxInstances], [0, 1_000]);
    const [source, ...others] = pool.sources;
    assert.deepEqual(others, []);
    assert.ok(source?.config?.type === "openstack");
    const { cloud, cloudsConfig, novaMicroversion, bootTimeMs, useIgnition, serverSpec, createTimeoutMs } =
      source.config;
    assert.deepEqual([cloud, cloudsConfig], ["runner", "/etc/gitlab-runner/clouds.yaml"]);
    assert.deepEqual([novaMicroversion, bootTimeMs, useIgnition], ["2.79", 600_000, true]);
    assert.deepEqual(serverSpec, example["server_spec"]);
    assert.ok(createTimeoutMs > 600_000, "the console is waited for as long as boot_time says");
  });

  test("may have keys of a pool beside it, and is the same pool again", () => {
    const { pool, poolName } = read({ warm_instances: 2, max_instances: 16 });
    assert.deepEqual([pool.warmInstances, pool.maxInstances], [2, 16]);
    assert.equal(read({ warm_instances: 2, max_instances: 16 }).poolName, poolName);
    assert.notEqual(read().poolName, poolName);
  });

  test("says which key is wrong and what to write", () => {
    const spec = example["server_spec"] as Record<string, unknown>;
    const cases: [Record<string, unknown>, RegExp][] = [
      [{ nova_microversion: "2.40" }, /nova_microversion: must be 2\.52 or newer/],
      [{ boot_time: "soon" }, /boot_time: expected a duration such as/],
      [{ clouds_config: "clouds.yaml" }, /clouds_config: expected an absolute path/],
      [
        { server_spec: { ...spec, flavorRef: undefined } },
        /server_spec\.flavorRef: missing; give it a value/,
      ],
      [
        { server_spec: { ...spec, image_name: undefined, imageRef: undefined } },
        /image_name: missing; what does it boot from/,
      ],
      [{ server_spec: { ...spec, max_count: 3 } }, /server_spec\.max_count: each instance is one server/],
      [{ server_spec: { ...spec, tags: ["a,b"] } }, /server_spec\.tags\[0\]: expected a tag/],
      [{ clouds_confg: "/x" }, /clouds_confg: there is no such key; did you mean/],
    ];
    for (const [more, pattern] of cases) assert.throws(() => read(more), pattern);
  });
});

describe("fleeting-plugin-incus's example", () => {
  const example = exampleOf(INCUS) as Record<string, unknown>;
  const read = (config: Record<string, unknown>) => parsePluginConfig(JSON.stringify(config), NOTHING);
  const sourceOf = (config: Record<string, unknown>) => {
    const [source, ...others] = read(config).pool.sources;
    assert.deepEqual(others, []);
    assert.ok(source?.config?.type === "incus");
    return source.config;
  };

  test("means a pool of VMs at the local server", () => {
    const { pool, inline, group } = read(example);
    assert.deepEqual([inline, group], [true, undefined]);
    assert.deepEqual([pool.warmInstances, pool.maxInstances], [0, 5]);
    const source = sourceOf(example);
    assert.deepEqual([source.url, source.socketPath], [undefined, "/var/lib/incus/unix.socket"]);
    assert.deepEqual([source.image, source.instanceType], ["runner-base", "virtual-machine"]);
    assert.deepEqual([source.vcpus, source.memoryMiB, source.diskSize], [5, 10_240, "100GiB"]);
    assert.deepEqual([source.createTimeoutMs, source.deleteTimeoutMs], [120_000, 60_000]);
    assert.deepEqual([source.nameTemplate, source.maxInstances], ["runner-$random", 5]);
    assert.equal(source.sshKeyPath, "/opt/ssh-fleeting/id_ed25519");
  });

  test("has the plugin's defaults where it says nothing, and a key for each instance where it has none", () => {
    // To a program in Go the zero of its type is a key that is not there.
    const zeros = {
      incus_image: "",
      incus_startup_timeout: 0,
      max_instances: 0,
      state_file_path: "/var/x.json",
    };
    assert.deepEqual(
      sourceOf({ incus_instance_size: "t3.small", ...zeros }),
      sourceOf({ incus_instance_size: "t3.small" }),
    );
    const source = sourceOf({ incus_instance_size: "t3.small" });
    assert.deepEqual([source.image, source.diskSize, source.maxInstances], ["runner-base", "10GiB", 20]);
    assert.deepEqual([source.vcpus, source.memoryMiB], [2, 2_048]);
    assert.deepEqual([source.createTimeoutMs, source.deleteTimeoutMs], [120_000, 60_000]);
    assert.equal(source.sshKeyPath, undefined);
  });

  test("may name another server, and says which key is wrong in its own words", () => {
    assert.equal(sourceOf({ ...example, project: "ci" }).project, "ci");
    const cases: [Record<string, unknown>, RegExp][] = [
      [{ incus_instance_size: "big" }, /incus_instance_size: /],
      [{ incus_startup_timeout: "0s" }, /incus_startup_timeout: must be from 1s/],
      [{ incus_naming_scheme: "runner" }, /incus_naming_scheme: expected a name with \$random/],
      [{ incus_instance_key_path: "id" }, /incus_instance_key_path: expected an absolute path/],
      [{ incus_delete_only_own_vms: false }, /incus_delete_only_own_vms: must be true, .*leave it out/],
      [{ incus_imgae: "x" }, /incus_imgae: there is no such key/],
    ];
    for (const [more, pattern] of cases) assert.throws(() => read({ ...example, ...more }), pattern);
  });
});

describe("fleeting-plugin-vcd's example", () => {
  const example = exampleOf(VCD) as Record<string, unknown>;
  const read = (more: Record<string, unknown> = {}) =>
    parsePluginConfig(JSON.stringify({ ...example, ...more }), NOTHING);
  const sourceOf = (more: Record<string, unknown> = {}) => {
    const [source, ...others] = read(more).pool.sources;
    assert.deepEqual(others, []);
    assert.ok(source?.config?.type === "vcd");
    return source.config;
  };

  test("means a pool in that data center", () => {
    const { pool, inline, group, debugListen } = read();
    assert.deepEqual([inline, group], [true, "gitlab-runners"]);
    assert.deepEqual(debugListen, { host: "127.0.0.1", port: 27_060 });
    assert.deepEqual([pool.warmInstances, pool.maxInstances], [0, 1_000]);
    const source = sourceOf();
    assert.deepEqual([source.url, source.org], ["https://vcd.example.com", "MyOrg"]);
    assert.deepEqual([source.token, source.insecure], ["your-api-token", false]);
    assert.deepEqual([source.virtualDatacenter, source.network], ["MyVDC", "MyNetwork"]);
    assert.deepEqual([source.catalog, source.template], ["MyCatalog", "Ubuntu-22.04"]);
    assert.deepEqual([source.storageProfile, source.ipAllocationMode], ["MyStorageProfile", "POOL"]);
    assert.deepEqual([source.cpuCount, source.coresPerSocket], [4, 2]);
    assert.deepEqual([source.memoryMiB, source.diskGiB], [8_192, 100]);
    assert.deepEqual([source.vappNamePrefix, source.description], ["gitlab-runner", "my-runner"]);
    assert.deepEqual([source.maxConcurrentCreates, source.maxConcurrentDeletes], [3, 5]);
    assert.equal(source.createTimeoutMs, 1_200_000);
  });

  test("has its defaults where a key says nothing, and older keys", () => {
    const source = sourceOf({
      max_concurrent_creates: 0,
      create_timeout: "",
      vapp: "mine",
      vm_name_prefix: "vm",
    });
    assert.deepEqual([source.maxConcurrentCreates, source.createTimeoutMs], [3, 1_200_000]);
    assert.equal(read({ max_instances: 0 }).pool.maxInstances, 1_000);
  });

  test("may be called anything", () => {
    const groupOf = (instance_group_name: string) => read({ instance_group_name }).group ?? "";
    assert.match(groupOf("my ståck"), /^my-st-ck-[0-9a-f]{8}$/);
    assert.notEqual(groupOf("my stack"), groupOf("my-stack"));
    assert.equal(groupOf("x".repeat(90)).length, 49);
    assert.throws(() => read({ group: "my stack" }), /group: expected a name/);
  });

  test("may have its optional keys", () => {
    const source = sourceOf({
      disk_size_gb: 0,
      ip_allocation_mode: "DHCP",
      max_concurrent_creates: 2,
      max_concurrent_deletes: 1,
      max_concurrent_operations: 4,
      create_timeout: "30m",
      startup_cleanup_timeout: "10m",
      session_refresh_interval: "20h",
    });
    assert.deepEqual([source.diskGiB, source.ipAllocationMode], [undefined, "DHCP"]);
    assert.deepEqual([source.maxConcurrentCreates, source.maxConcurrentDeletes], [2, 1]);
    assert.equal(source.createTimeoutMs, 1_800_000);
  });

  test("says which key is wrong in its own words, and never the token", () => {
    const cases: [Record<string, unknown>, RegExp][] = [
      [{ ip_allocation_mode: "STATIC" }, /ip_allocation_mode: expected one of "POOL", "DHCP"/],
      [{ cores_per_socket: 3 }, /cores_per_socket: cpu_count, which is 4, must be a multiple of it/],
      [{ memory_mb: 8_191 }, /memory_mb: .*multiple of 4/],
      [{ name: 7 }, /name: expected a string/],
      [{ token: "" }, /token_file: missing; or write token/],
      [{ token: undefined }, /token_file: missing; or write token/],
      [{ virtual_datacentre: "x" }, /virtual_datacentre: there is no such key/],
      [{ vapp_name_prefix: "a b" }, /vapp_name_prefix: expected 1 to 60 of/],
    ];
    for (const [more, pattern] of cases) {
      assert.throws(
        () => read(more),
        (error: Error) => {
          assert.match(error.message, pattern);
          assert.doesNotMatch(error.message, /your-api-token/);
          return true;
        },
      );
    }
  });
});

describe("the original fleeting-plugin-fleetingd's example", () => {
  test("means a pool of VMs on this host", () => {
    const { pool, inline, group } = parsePluginConfig(JSON.stringify(exampleOf(FLEETINGD)), NOTHING);
    assert.deepEqual([inline, group], [true, undefined]);
    assert.deepEqual(
      pool.sources.map(({ name }) => name),
      ["local"],
    );
    const { egressInterface, diskDirectory, subnet, vcpus, memoryMiB, diskSizeGiB } = pool;
    assert.deepEqual([egressInterface, diskDirectory], ["eth0", "/tmp/fleetingd"]);
    assert.equal(subnet.cidr, "172.16.120.0/24");
    assert.deepEqual([vcpus, memoryMiB, diskSizeGiB], [8, 16_384, 30]);
    assert.deepEqual(pool.prebuildExtraCommands, [
      "apt install -y --no-install-recommends git build-essential",
      'su - ubuntu -c "whoami"',
    ]);
  });
});
