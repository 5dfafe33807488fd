/** What other fleeting plugins print as their example is taken by this one as it stands. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { parsePluginConfig } from "../../../src/config/plugin-config.ts";
import { plainValue, readToml } from "../../../src/config/toml.ts";
import { parseConfig } from "../../../src/config.ts";

const NOTHING = parseConfig([]);

function exampleOf(text: string): unknown {
  const result = readToml("example", text);
  assert.ok("table" in result);
  return JSON.parse(JSON.stringify(plainValue(result.table)));
}

describe("fleeting-plugin-openstack's example", () => {
  const EXAMPLE = `
cloud = "runner"
clouds_config = "/etc/gitlab-runner/clouds.yaml"
name = "scaling-runner-stack-id"
nova_microversion = "2.79" # train+
boot_time = "10m"
use_ignition = true

[server_spec]
name = "scaling-runner-%d"
description = "GitLab CI Docker runners with autoscaling"
tags = ["GitLab", "CI", "Docker", "Scaling"]
imageRef = "d5460af5-83f3-47d7-9c4f-80294c66b267"
image_name = "flatcar"
flavorRef = "4e9d4fa4-a703-4850-8bc1-58b5e139ab57"
networks = [ { uuid = "f05e7f64-9e0f-4c5c-acb0-b636000d7301" } ]
security_groups = [ "cee22d91-bb9a-455d-be88-e911d3cb066a" ]
scheduler_hints = { group = "a9c941cb-5b34-46e0-8fc6-7471e3b77c75" }
user_data = '''
{
  "ignition": { "version": "3.4.0" },
  "storage": { "files": [ { "path": "/etc/flatcar/update.conf", "contents": { "source": "data:,SERVER%3Ddisabled" } } ] }
}
'''
`;
  const example = exampleOf(EXAMPLE) as Record<string, unknown>;
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
      [{ server_spec: { ...spec, flavorRef: undefined } }, /server_spec\.flavorRef: .*missing/],
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
  const EXAMPLE = `
incus_image = "runner-base"                    # Incus image/alias to use
incus_instance_key_path = "/opt/ssh-fleeting/id_ed25519"  # SSH private key for VM access
incus_instance_size = "c5-m10"                 # VM size: c5-m10 (5 CPU, 10GB) or t2.micro (AWS-style)
incus_disk_size = "100GiB"                     # Root disk size (default: 100GiB)
incus_startup_timeout = 120                    # VM startup timeout in seconds (default: 120)
incus_operation_timeout = 60                   # Incus operation timeout in seconds (default: 60)
incus_naming_scheme = "runner-$random"         # Naming scheme for VMs (default: runner-$random)
incus_delete_only_own_vms = true               # Only delete VMs matching naming scheme (default: true)
max_instances = 5                              # Maximum number of VMs (default: 5)
`;
  const example = exampleOf(EXAMPLE) as Record<string, unknown>;
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
      [{ incus_startup_timeout: 0 }, /incus_startup_timeout: must be from 1s/],
      [{ incus_naming_scheme: "runner" }, /incus_naming_scheme: expected a name with \$random/],
      [{ incus_instance_key_path: "id" }, /incus_instance_key_path: expected an absolute path/],
      [{ incus_delete_only_own_vms: false }, /incus_delete_only_own_vms: must be true, .*leave it out/],
      [{ incus_imgae: "x" }, /incus_imgae: there is no such key/],
    ];
    for (const [more, pattern] of cases) assert.throws(() => read({ ...example, ...more }), pattern);
  });
});

describe("fleeting-plugin-vcd's example", () => {
  const EXAMPLE = `
name = "my-runner"
url = "https://vcd.example.com/api"
org = "MyOrg"
token = "your-api-token"
virtual_datacenter = "MyVDC"
network = "MyNetwork"
ip_allocation_mode = "POOL"
instance_group_name = "gitlab-runners"
vapp_name_prefix = "gitlab-runner"
catalog = "MyCatalog"
template = "Ubuntu-22.04"
storage_profile = "MyStorageProfile"
cpu_count = 4
cores_per_socket = 2
memory_mb = 8192
disk_size_gb = 100
debug_server_addr = "127.0.0.1:27060"
`;

  const example = exampleOf(EXAMPLE) as Record<string, unknown>;
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
      [{ token: "" }, /token: expected a text that is not empty/],
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
  const EXAMPLE = `
# The VMs are going to use this interface for gress traffic / internet access
egress_interface = "eth0"

# The directory where OS images, kernel images and the VM's ephemeral disks are stored
vm_disk_directory = "/tmp/fleetingd"

# The subnet the VMs are going to be attached to
vm_subnet = "172.16.120."

# Number of vCPU cores available per VM
vm_num_cpu_cores = 8

# RAM per VM instance (ballooning is enabled so you may overcommit depending on your use case)
vm_memory_mb = 16384

# VM disk size in GB (sparse allocation)
vm_disk_size_gb = 30

# Inject some extra cloudinit commands to run during prebuild, add your VM image customization here:
vm_prebuild_cloudinit_extra_cmds = [
  # Example: This is run as root
  'apt install -y --no-install-recommends git build-essential',

  # Example: This is run as ubuntu
  'su - ubuntu -c "whoami"',
]

# You can enable the virtio console file in the .instance_data subdirectory of vm_disk_directory
vm_enable_virtio_console = false
`;

  test("means a pool of VMs on this host", () => {
    const { pool, inline, group } = parsePluginConfig(JSON.stringify(exampleOf(EXAMPLE)), NOTHING);
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
