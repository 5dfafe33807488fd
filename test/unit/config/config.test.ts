import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { type ConfigFile, parseConfig } from "../../../src/config.ts";
import { FleetingdError } from "../../../src/errors.ts";

const PATH = "/etc/fleetingd/config.toml";

function parse(text: string) {
  return parseConfig([{ path: PATH, text }]);
}

/** The lines of the one error that these files give. */
function errorsOf(...files: Array<string | ConfigFile>): string[] {
  const given = files.map((file) => (typeof file === "string" ? { path: PATH, text: file } : file));
  try {
    parseConfig(given);
  } catch (error) {
    assert.ok(error instanceof FleetingdError, String(error));
    assert.equal(error.code, "INVALID_CONFIG");
    return error.message.split("\n");
  }
  return assert.fail("the configuration was accepted");
}

describe("defaults", () => {
  test("no file at all is the defaults, and no pool", () => {
    const config = parseConfig([]);
    assert.deepEqual(
      { ...config.daemon },
      {
        socketPath: "/run/fleetingd/fleetingd.sock",
        socketGroup: "fleetingd",
        stateDirectory: "/var/lib/fleetingd",
        hypervisor: "auto",
        logLevel: "info",
        logFormat: "auto",
        maxConcurrentCreates: "auto",
        maxConcurrentDeletes: 4,
        metricsListen: undefined,
        pageListen: undefined,
        pageTokenFile: undefined,
        admission: {
          memoryOvercommitPercent: 100,
          memoryReserveMiB: 512,
          vcpusPerCore: 16,
          diskReserveGiB: 1,
          memoryPressureLimitPercent: 40,
        },
        imagesGcIntervalMs: 3_600_000,
        rulesGuard: "auto",
        vmUsers: { first: 1_900_000_000, last: 1_900_065_535 },
      },
    );
    assert.deepEqual(Object.keys(config.pools), []);
    assert.deepEqual({ ...config.images }, { default: { type: "auto" } });
  });

  test("an empty pool has every default", () => {
    assert.deepEqual(
      { ...parse("[pools.ci]").pools["ci"] },
      {
        sources: [{ name: "local", config: undefined, maxInstances: undefined, warmInstances: undefined }],
        image: "default",
        warmInstances: 1,
        maxInstances: 63,
        bootTimeoutMs: 300_000,
        prebuildTimeoutMs: 1_800_000,
        prebuildIntervalMs: 86_400_000,
        heartbeatTimeoutMs: 300_000,
        maxIdleAgeMs: 86_400_000,
        orphanTimeoutMs: 3_600_000,
        bootProfile: "fast",
        cloneMode: "auto",
        idleMode: "running",
        dnsServers: [],
        egressInterface: "auto",
        memoryOverheadMiB: 512,
        cpuWeight: 100,
        cpuLimitPercent: 300,
        diskMiBPerSecond: 0,
        diskOperationsPerSecond: 0,
        diskDirectory: "/var/lib/fleetingd",
        subnet: { cidr: "172.16.120.0/24", slotCount: 64 },
        subnet6: undefined,
        egress: "all",
        egressDeny: [],
        egressAllow: [],
        hostServices: [],
        services: undefined,
        bandwidthUpMbit: 0,
        bandwidthDownMbit: 0,
        maxConnections: 4096,
        newConnectionsPerSecond: 500,
        vcpus: 2,
        memoryMiB: 2048,
        diskSizeGiB: 10,
        prebuildExtraCommands: [],
        enableVirtioConsole: false,
        prebuildPackages: [],
        prebuildPackageUpgrade: false,
      },
    );
  });

  test("the web page: a socket, the loopback, and elsewhere only with a token", () => {
    const listen = (value: string, more = ""): unknown =>
      parse(`[daemon]\npage_listen = ${JSON.stringify(value)}\n${more}`).daemon.pageListen;
    assert.equal(listen("off"), undefined);
    assert.deepEqual(listen("/run/fleetingd/page.sock"), { path: "/run/fleetingd/page.sock" });
    assert.deepEqual(listen("127.0.0.1:9465"), { host: "127.0.0.1", port: 9465 });
    assert.deepEqual(listen("[::1]:9465"), { host: "::1", port: 9465 });
    assert.throws(() => listen("0.0.0.0:9465"), /page_listen: .*name a file with a token in page_token_file/);
    assert.deepEqual(listen("0.0.0.0:9465", 'page_token_file = "/etc/token"'), {
      host: "0.0.0.0",
      port: 9465,
    });
    assert.throws(() => listen("page.sock"), /the absolute path of a unix socket/);
  });

  test("network keys: each accepted form, and what is refused", () => {
    const pool = parse(`[pools.ci]
      vm_subnet6 = "fd12:3456:789a::/64"
      egress = "none"
      egress_deny = ["private", "10.1.2.3", "2001:db8::/32"]
      egress_allow = ["10.1.2.0/24", "2001:db8::1 udp/1000-2000", "192.0.2.77/24 tcp/443"]
      host_services = ["tcp/5000", "udp/53"]`).pools["ci"];
    assert.deepEqual(pool?.subnet6, { cidr: "fd12:3456:789a::/64", length: 64 });
    assert.deepEqual(pool.egressDeny, ["private", "10.1.2.3/32", "2001:db8::/32"]);
    assert.deepEqual(pool.egressAllow, [
      { prefix: "10.1.2.0/24" },
      { prefix: "2001:db8::1/128", ports: { protocol: "udp", first: 1000, last: 2000 } },
      { prefix: "192.0.2.0/24", ports: { protocol: "tcp", first: 443, last: 443 } },
    ]);
    for (const line of [
      'vm_subnet6 = "fe80::/64"',
      'vm_subnet6 = "fd00::1/64"',
      'vm_subnet6 = "fd00::/124"',
      'egress = "some"',
      'egress_deny = ["10.0.0.0/33"]',
      'egress_deny = ["10.0.0.0/8; flush ruleset"]',
      'egress_allow = ["10.0.0.0/8 tcp/0"]',
      'egress_allow = ["10.0.0.0/8 443"]',
      'egress_allow = ["10.0.0.0/8 tcp/443 udp/53"]',
      'host_services = ["5000"]',
      'host_services = ["tcp/70000"]',
      "bandwidth_up_mbit = -1",
      "max_connections = 0",
    ]) {
      assert.throws(() => parse(`[pools.ci]\n${line}`), { code: "INVALID_CONFIG" }, line);
    }
  });

  test("the result is frozen to its depth", () => {
    const config = parse('[pools.ci]\ndns_servers = ["9.9.9.9"]');
    const pool = config.pools["ci"];
    for (const part of [
      config,
      config.daemon,
      config.pools,
      config.images,
      pool,
      pool?.subnet,
      pool?.dnsServers,
    ]) {
      assert.ok(Object.isFrozen(part));
    }
  });
});

describe("errors", () => {
  test("five of them are all told, each with its line", () => {
    const lines = errorsOf(
      [
        "[daemon]",
        'log_level = "verbose"',
        "sockett = 1",
        "",
        "[pools.ci]",
        'vm_memory_mb = "8192"',
        "vm_num_cpu_cores = 0",
        "",
        "[pools.CI]",
      ].join("\n"),
    );
    assert.deepEqual(lines, [
      `${PATH}:2: daemon.log_level: expected one of "debug", "info", "warn", "error", but this is "verbose"; did you mean "error"?`,
      `${PATH}:3: daemon.sockett: there is no such key; did you mean "socket"?`,
      `${PATH}:6: pools.ci.vm_memory_mb: expected a whole number, but this is "8192", a string; write 8192 without quotes`,
      `${PATH}:7: pools.ci.vm_num_cpu_cores: must be at least 1, but this is 0`,
      `${PATH}:9: pools.CI: a name has 1 to 32 of the characters a-z, 0-9 and -`,
    ]);
  });

  test("unknown keys and sections name the nearest known one", () => {
    assert.deepEqual(
      errorsOf("[pool.ci]\n[pools.ci]\nvm_memroy_mb = 8192\nmax_instance = 3\n[images.x]\nsuit = 1"),
      [
        `${PATH}:1: pool: there is no such key; did you mean "pools"?`,
        `${PATH}:3: pools.ci.vm_memroy_mb: there is no such key; did you mean "vm_memory_mb"?`,
        `${PATH}:4: pools.ci.max_instance: there is no such key; did you mean "max_instances"?`,
        `${PATH}:6: images.x.suit: there is no such key; did you mean "type"?`,
      ],
    );
  });

  test("a syntax error hides no error of another file", () => {
    const lines = errorsOf(
      { path: "/a.toml", text: "[daemon]\nlog_level = yes\n" },
      { path: "/b.toml", text: '[pools.ci]\nimage = "in-a"\nvm_disk_size_gb = -1\n' },
    );
    assert.deepEqual(lines, [
      "/a.toml:2: Unexpected character (in `log_level = yes`)",
      "/b.toml:3: pools.ci.vm_disk_size_gb: must be at least 1, but this is -1",
    ]);
  });

  test("keys that do not fit each other", () => {
    assert.deepEqual(
      errorsOf(
        [
          "[pools.a]",
          "warm_instances = 5",
          "max_instances = 3",
          "[pools.b]",
          "max_instances = 64",
          "[pools.c]",
          'vm_subnet = "10.1.0.0/30"',
          "[pools.d]",
          'image = "nobel"',
          "[images.noble]",
          'type = "ubuntu-cloud"',
        ].join("\n"),
      ),
      [
        `${PATH}:2: pools.a.warm_instances: 5 is more than max_instances, which is 3; lower it or raise max_instances`,
        `${PATH}:5: pools.b.max_instances: 64 VMs have no room in the vm_subnet 172.16.120.0/24: it has addresses for 63, and one more for the prebuild; lower max_instances or use a larger prefix`,
        `${PATH}:7: pools.c.vm_subnet: 10.1.0.0/30 has room for one VM only, and that is the prebuild's; use a /29 or a larger prefix`,
        `${PATH}:9: pools.d.image: there is no image "nobel" in [images]; did you mean "noble"?`,
      ],
    );
  });

  for (const [toml, pattern] of [
    ['vm_disk_directory = "var/lib"', /expected an absolute path/],
    ["vm_disk_directory = 3", /expected a string, but this is 3; write "3"/],
    ['vm_enable_virtio_console = "true"', /write true without quotes/],
    ["vm_memory_mb = 8.5", /expected a whole number, but this is 8.5/],
    ["vm_memory_mb = inf", /expected a/],
    ["vm_memory_mb = 8", /must be at least 128/],
    ["vm_memory_mb = 99999999999999999999", /must be at most|expected a whole number/],
    ['dns_servers = "9.9.9.9"', /expected a list, but this is "9.9.9.9", a string; write \["9.9.9.9"\]/],
    ['dns_servers = ["9.9.9.9", "127.0.0.53"]', /dns_servers\[1\]: 127.0.0.53 means the VM itself/],
    ['dns_servers = ["010.0.0.1"]', /expected an IPv4 address/],
    ['boot_timeout = "2 minutes"', /expected a duration such as "90s"/],
    ["boot_timeout = 0", /must be from 1s to 24h/],
    ["boot_timeout = 2020-01-01", /this is a date/],
    ['vm_subnet = "172.16.120"', /neither an IPv4 prefix/],
    ['egress_interface = "eth0; drop"', /is not the name of a network interface/],
    ['vm_prebuild_cloudinit_extra_cmds = ["  "]', /an empty command does nothing/],
    ['prebuild_packages = ["-o=x"]', /expected a package name/],
    ['boot_profile = "compatibel"', /did you mean "compatible"\?/],
    ["image = { type = 1 }", /expected a string, but this is a table/],
  ] as const) {
    test(`${toml} is one error in its line`, () => {
      const lines = errorsOf(`[pools.ci]\n${toml}\n`);
      assert.equal(lines.length, 1, lines.join("\n"));
      assert.match(lines[0] ?? "", pattern);
      assert.ok(lines[0]?.startsWith(`${PATH}:2: pools.ci.`), lines[0]);
    });
  }

  test("sections of the wrong kind", () => {
    assert.deepEqual(errorsOf("daemon = 1\npools = [1]\nimages = 2020-01-01"), [
      `${PATH}:1: daemon: expected a table, but this is 1`,
      `${PATH}:2: pools: expected tables such as [pools.default], but this is a list`,
      `${PATH}:3: images: expected tables such as [images.default], but this is a date`,
    ]);
    assert.match(errorsOf("[[pools]]\nimage = 1")[0] ?? "", /:1: pools: expected tables/);
    assert.match(errorsOf("[pools]\nci = 3")[0] ?? "", /:2: pools.ci: expected a table/);
  });

  test("a key that means something to JavaScript is only unknown, or a name", () => {
    assert.match(errorsOf("__proto__ = 1")[0] ?? "", /there is no such key/);
    assert.match(errorsOf("[pools.__proto__]\nx = 1").join("\n"), /:1: pools.__proto__: a name has/);
    assert.ok(parse("[pools.constructor]").pools["constructor"] !== undefined);
    assert.equal(parse("").pools["constructor"], undefined);
    assert.match(errorsOf('[pools.a]\nimage = "constructor"')[0] ?? "", /there is no image "constructor"/);
  });
});

describe("several files", () => {
  test("a later one adds tables and replaces keys, lists as a whole", () => {
    const config = parseConfig([
      {
        path: PATH,
        text: '[pools.ci]\nvm_num_cpu_cores = 4\ndns_servers = ["9.9.9.9", "1.1.1.1"]\nvm_memory_mb = 512',
      },
      {
        path: "/etc/fleetingd/conf.d/10.toml",
        text: '[pools.ci]\nvm_num_cpu_cores = 8\ndns_servers = ["8.8.8.8"]',
      },
      { path: "/etc/fleetingd/conf.d/20.toml", text: "[pools.big]\nvm_memory_mb = 4096" },
    ]);
    assert.equal(config.pools["ci"]?.vcpus, 8);
    assert.equal(config.pools["ci"]?.memoryMiB, 512);
    assert.deepEqual(config.pools["ci"]?.dnsServers, ["8.8.8.8"]);
    assert.equal(config.pools["big"]?.memoryMiB, 4096);
  });

  test("an error names the file that has the value", () => {
    assert.deepEqual(
      errorsOf("[pools.ci]\nvm_memory_mb = 1", {
        path: "/conf.d/10.toml",
        text: "\n\n[pools.ci]\nvm_memory_mb = 2",
      }),
      ["/conf.d/10.toml:4: pools.ci.vm_memory_mb: must be at least 128, but this is 2"],
    );
  });
});

describe("services", () => {
  test("are what listens on the loopback, each at a port of its own", () => {
    const { services } = parse('[services]\ndns = "127.0.0.1:5353"\npackage_cache = "127.0.0.53:3142"');
    assert.deepEqual(services, [
      { name: "dns", address: "127.0.0.1", port: 5353 },
      { name: "package_cache", address: "127.0.0.53", port: 3142 },
    ]);
    for (const value of [
      "10.0.0.1:53",
      "127.0.0.1",
      "127.0.0.1:0",
      "127.0.0.1:65536",
      "[::1]:53",
      "localhost:53",
    ])
      assert.match(
        errorsOf(`[services]\ndns = "${value}"`).join(),
        /services\.dns: expected an IPv4 address/,
      );
    assert.match(
      errorsOf('[services]\ndns = "127.0.0.1:5353"\nregistry_mirror = "127.0.0.2:53"').join(),
      /services\.registry_mirror: VMs find dns at port 53 already/,
    );
  });
});

describe("forms", () => {
  test("dotted keys, inline tables and quoted keys are the same as tables", () => {
    const config = parse(
      'pools.a.vm_memory_mb = 512\npools.b = { "vm_memory_mb" = 512 }\n[pools.c]\nvm_memory_mb = 512',
    );
    for (const name of ["a", "b", "c"]) assert.equal(config.pools[name]?.memoryMiB, 512);
  });

  test("durations", () => {
    const timeout = (value: string) => parse(`[pools.a]\nboot_timeout = ${value}`).pools["a"]?.bootTimeoutMs;
    assert.equal(timeout('"2m30s"'), 150_000);
    assert.equal(timeout('"1h"'), 3_600_000);
    assert.equal(timeout('"1500ms"'), 1_500);
    assert.equal(timeout("90"), 90_000);
  });

  test("the subnet in its short form, and as a larger prefix with more room", () => {
    const pool = (value: string) => parse(`[pools.a]\nvm_subnet = "${value}"`).pools["a"];
    assert.deepEqual(pool("172.16.120."), pool("172.16.120.0/24"));
    assert.equal(pool("10.99.0.0/20")?.maxInstances, 1023);
  });
});
