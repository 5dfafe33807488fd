/** What the doctor says of a host, its daemon and its runner: each illness is caused for real, and healed as it says. */
import assert from "node:assert/strict";
import { chmod, mkdir, rm, stat, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { execa } from "execa";
import { type Report, reportSchema } from "../../../src/doctor/finding.ts";
import { exists } from "../../../src/host/files.ts";
import { run } from "../../../src/host/run.ts";
import { FLEETINGD, PLUGIN, type TestDaemon } from "../../helpers/daemon.ts";
import { needsNamespace } from "../../helpers/namespace.ts";
import { createStandInWorld, STAND_IN_POOL, type StandInWorld } from "../../helpers/stand-in-world.ts";
import { failOnLeaks } from "../../helpers/suite.ts";

failOnLeaks();

const UPLINK = "dr-uplink";
const RP_FILTER = `/proc/sys/net/ipv4/conf/${UPLINK}/rp_filter`;

describe("the doctor", { skip: needsNamespace() }, () => {
  let world: StandInWorld;
  let daemon: TestDaemon;
  let runnerConfig: string;

  before(async () => {
    await addLink(UPLINK);
    await run("ip", ["address", "add", "198.51.100.2/24", "dev", UPLINK]);
    await run("ip", ["route", "add", "default", "via", "198.51.100.1"]);
    world = await createStandInWorld();
    daemon = await world.start({
      pool: { warm_instances: 1, max_instances: 2, dns_servers: ["198.51.100.2"] },
      ephemeral: true,
    });
    await daemon.untilWarm(STAND_IN_POOL, 1);
    runnerConfig = join(world.folder, "runner.toml");
  });
  after(async () => {
    await daemon.stop();
    await world.remove();
    await run("ip", ["link", "delete", UPLINK]);
  });

  const cli = (...words: string[]) =>
    execa(
      FLEETINGD,
      [
        "--config",
        join(daemon.directory, "config.toml"),
        "doctor",
        "--runner-config",
        runnerConfig,
        ...words,
      ],
      { reject: false },
    );
  const examine = async (...words: string[]): Promise<Report> => {
    const { stdout, exitCode } = await cli("--json", ...words);
    const report = reportSchema.strict().parse(JSON.parse(stdout));
    assert.equal(exitCode, { ok: 0, warn: 1, fail: 2 }[report.verdict]);
    return report;
  };
  const found = async (
    area: string,
    verdict: string,
    message: RegExp,
  ): Promise<Report["findings"][number]> => {
    const { findings } = await examine();
    const finding = findings.find((one) => one.area === area && message.test(one.message));
    assert.ok(finding !== undefined, `${message} of ${JSON.stringify(findings, null, 2)}`);
    assert.equal(finding.verdict, verdict);
    if (verdict !== "ok") assert.ok(finding.remedy !== null, "no remedy");
    return finding;
  };

  test("finds nothing wrong where nothing is, but what this machine lacks", async () => {
    const { findings } = await examine();
    const bad = findings.filter(
      // Machines without KVM, whose clock is another's, or that are short of space.
      ({ area, verdict }) =>
        verdict !== "ok" && !["virtualization", "clock", "resolvers", "disk"].includes(area),
    );
    assert.deepEqual(bad, []);
    const areas = new Set(findings.map(({ area }) => area));
    assert.deepEqual(
      [...areas],
      [
        ...[
          "configuration",
          "programs",
          "virtualization",
          "nftables",
          "clock",
          "pools",
          "memory",
          "disk",
          "image",
        ],
        ...["egress", "firewalls", "connections", "resolvers", "daemon", "runner"],
      ],
    );
  });

  test("says it in lines, the remedy below what it mends", async () => {
    const { stdout, stderr } = await cli();
    assert.match(stdout, /^ok {4}programs {8}the programs that VMs need/m);
    assert.match(
      stdout,
      /^WARN {2}resolvers {7}the resolver 198\.51\.100\.2 does not answer \(ECONNREFUSED\)\n +→ Set dns_servers/m,
    );
    assert.match(stdout, /\n\nFailures: 0\. Warnings: \d+\.$/);
    assert.match(stderr, /looking at: egress/);
  });

  test("lists every error of a configuration, and looks at the host all the same", async () => {
    const broken = join(world.folder, "broken.toml");
    await writeFile(broken, '[pools.ci]\nmax_instances = "many"\nvm_subnet = "nowhere"\n');
    const { stdout, exitCode } = await execa(FLEETINGD, ["--config", broken, "doctor", "--json"], {
      reject: false,
    });
    assert.equal(exitCode, 2);
    const { findings } = reportSchema.parse(JSON.parse(stdout));
    const errors = findings.filter(({ area }) => area === "configuration");
    assert.deepEqual(
      errors.map(({ verdict }) => verdict),
      ["fail", "fail"],
    );
    assert.match(errors.map(({ message }) => message).join(), /max_instances.*vm_subnet/s);
    assert.ok(findings.some(({ area, verdict }) => area === "programs" && verdict === "ok"));
  });

  test("closes a socket that everybody may use, if asked to", async () => {
    await chmod(daemon.socket, 0o666);
    const { fixable } = await found("daemon", "fail", /every user of this host may use/);
    assert.ok(fixable);
    assert.equal((await stat(daemon.socket)).mode & 0o777, 0o666);
    const { stderr, stdout } = await cli("--fix", "--json");
    assert.match(stderr, /mending: take .*\.sock from all but its group/);
    const { fixed, findings } = reportSchema.parse(JSON.parse(stdout));
    assert.equal(fixed.length, 1);
    assert.ok(!findings.some(({ verdict }) => verdict === "fail"));
    assert.equal((await stat(daemon.socket)).mode & 0o777, 0o660);
  });

  test("makes a disk directory that is missing, if asked to", async () => {
    const directory = join(world.folder, "not-yet");
    const other = join(world.folder, "other.toml");
    await writeFile(other, `[pools.ci]\nvm_disk_directory = "${directory}"\n`);
    await execa(FLEETINGD, ["--config", other, "doctor"], { reject: false });
    assert.equal(await exists(directory), false);
    const { stdout } = await execa(FLEETINGD, ["--config", other, "doctor", "--fix", "--json"], {
      reject: false,
    });
    assert.deepEqual(reportSchema.parse(JSON.parse(stdout)).fixed, [`make the directory ${directory}`]);
    assert.equal((await stat(directory)).mode & 0o777, 0o711);
    await rm(directory, { recursive: true });
  });

  test("asks the host's services whether they answer", async (t) => {
    const server = createServer().listen(5000, "127.0.0.1");
    t.after(() => server.close());
    const other = join(world.folder, "services.toml");
    await writeFile(
      other,
      '[services]\nregistry_mirror = "127.0.0.1:5000"\npackage_cache = "127.0.0.1:3142"\n',
    );
    const { stdout } = await execa(FLEETINGD, ["--config", other, "doctor", "--json"], { reject: false });
    const { findings } = reportSchema.parse(JSON.parse(stdout));
    const [mirror, cache] = findings.filter(({ area }) => area === "services");
    assert.deepEqual([mirror?.verdict, cache?.verdict], ["ok", "warn"]);
    assert.match(
      cache?.message ?? "",
      /^package_cache does not answer at 127\.0\.0\.1:3142 \(ECONNREFUSED\)$/,
    );
  });

  test("tries the network: a strict filter, and no way out", async (t) => {
    await addLink("dr-other");
    t.after(() => run("ip", ["link", "delete", "dr-other"]));
    const before = await run("cat", [RP_FILTER]);
    await writeFile(RP_FILTER, "1");
    await found("egress", "ok", new RegExp(`VMs reach the outside through ${UPLINK}`));
    await run("ip", ["route", "replace", "default", "dev", "dr-other"]);
    await found("egress", "ok", /VMs reach the outside through dr-other/);
    await run("ip", ["route", "delete", "default"]);
    await found("egress", "warn", /no IPv4 default route/);
    await run("ip", ["route", "add", "default", "via", "198.51.100.1"]);
    await writeFile(RP_FILTER, before.stdout);
  });

  test("reads the runner's configuration, and says what will hurt", async () => {
    await writeFile(
      runnerConfig,
      `[[runners]]
  name = "bad"
  executor = "docker"
  instance_ready_command = "true"
  [runners.autoscaler]
    plugin = "/nowhere/fleeting-plugin-fleetingd"
    capacity_per_instance = 4
    max_instances = 50
    [runners.autoscaler.plugin_config]
      pool = "${STAND_IN_POOL}"
[[runners]]
  name = "refused"
  executor = "instance"
  [runners.autoscaler]
    plugin = "${PLUGIN}"
    [runners.autoscaler.plugin_config]
      pool = "absent"
`,
    );
    const { findings } = await examine();
    const messages = findings
      .filter(({ area }) => area === "runner")
      .map(({ verdict, message }) => `${verdict} ${message}`);
    for (const expected of [
      /^fail runner "bad": the plugin \/nowhere\/fleeting-plugin-fleetingd was not found/,
      /^fail runner "bad": executor = "docker" has no use for instances/,
      /^warn runner "bad": instance_ready_command stands in \[\[runners\]\]/,
      /^warn runner "bad": max_use_count is not set/,
      /^warn runner "bad": capacity_per_instance = 4 /,
      /^warn runner "bad": it forgets its instances/,
      /^warn runner "bad": may ask for 50 instances, and the pool ci has at most 2/,
      /^fail runner "refused": its plugin_config is refused: .*absent/,
      /^warn shutdown_timeout is not set/,
    ])
      assert.ok(
        messages.some((one) => expected.test(one)),
        `${expected} of\n${messages.join("\n")}`,
      );
  });

  test("has nothing to say against a runner that is right", async () => {
    await writeFile(
      runnerConfig,
      `shutdown_timeout = 3600
[[runners]]
  name = "good"
  executor = "instance"
  [runners.autoscaler]
    plugin = "${PLUGIN}"
    capacity_per_instance = 1
    max_use_count = 1
    max_instances = 2
    [runners.autoscaler.state_storage]
      enabled = true
    [runners.autoscaler.plugin_config]
      pool = "${STAND_IN_POOL}"
`,
    );
    const { findings } = await examine();
    const ofRunner = findings.filter(({ area }) => area === "runner");
    assert.deepEqual(
      ofRunner.map(({ verdict, message }) => [verdict, message]),
      [["ok", 'runner "good": uses the pool ci']],
    );
    await writeFile(runnerConfig, "[[runners\n");
    await found("runner", "fail", /runner\.toml is not valid/);
  });

  test("knows a daemon that is not there", async () => {
    const absent = join(world.folder, "absent");
    await mkdir(absent);
    const { findings } = await examine("--socket", join(absent, "d.sock"));
    const finding = findings.find(({ area }) => area === "daemon");
    assert.equal(finding?.verdict, "fail");
    assert.match(finding?.message ?? "", /not running: nobody listens on .*d\.sock/);
    assert.match(finding?.remedy ?? "", /systemctl start fleetingd/);
  });
});

async function addLink(name: string): Promise<void> {
  const peer = `${name}-peer`;
  await run("ip", ["link", "add", name, "type", "veth", "peer", "name", peer]);
  for (const end of [name, peer]) await run("ip", ["link", "set", end, "up"]);
}
