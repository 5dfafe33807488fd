/** The daemon with VMware Cloud Director, as its how-to and as fleeting-plugin-vcd's README have it configured. */
import assert from "node:assert/strict";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { execa } from "execa";
import { NodeSSH } from "node-ssh";
import { generateSshKeyPair, publicKeyOf } from "../../src/cloudinit/keys.ts";
import { type Report, reportSchema } from "../../src/doctor/finding.ts";
import { type ConnectInfoResponse, type ConnectorConfig, State } from "../../src/gen/fleeting.ts";
import { textOf } from "../../src/sources/vcd/xml.ts";
import { FLEETINGD, startTestDaemon, type TestDaemon, tableToml } from "../helpers/daemon.ts";
import { needsNamespace } from "../helpers/namespace.ts";
import { failOnLeaks } from "../helpers/suite.ts";
import { startVcdSite, type VcdSite } from "../helpers/vcd/site.ts";
import { API_TOKEN, NAMES } from "../helpers/vcd/world.ts";
import { Host } from "../system/plugin/host.ts";

failOnLeaks();

describe("a daemon with VMware Cloud Director", { skip: needsNamespace() }, () => {
  let site: VcdSite;
  let daemon: TestDaemon;
  let environment: Record<string, string>;

  before(async () => {
    site = await startVcdSite({ withGuests: true });
    environment = { NODE_EXTRA_CA_CERTS: site.caCertificate };
    const tokenFile = join(site.directory, "token");
    await writeFile(tokenFile, `${API_TOKEN}\n`, { mode: 0o600 });
    const source = tableToml("sources.director", {
      type: "vcd",
      url: site.director.url,
      org: NAMES.org,
      token_file: tokenFile,
      virtual_datacenter: NAMES.vdc,
      network: NAMES.network,
      catalog: NAMES.catalog,
      template: NAMES.linux,
      cpu_count: 4,
      cores_per_socket: 2,
      memory_mb: 8192,
      disk_size_gb: 40,
      max_instances: 20,
      poll_interval: "1s",
    });
    const pool = tableToml("pools.ci", { sources: ["director"], warm_instances: 1 });
    daemon = await startTestDaemon({ pools: `${source}${pool}`, env: environment });
    await daemon.untilWarm("ci", 1);
  });
  after(async () => {
    assert.ok(await daemon?.stop(), daemon?.log());
    assert.deepEqual(site.director.world.vapps, [], "a vApp was left");
    await site?.stop();
  });

  const cli = (...words: string[]) =>
    execa(FLEETINGD, ["--config", join(daemon.directory, "config.toml"), ...words], {
      env: environment,
      reject: false,
    });
  const log = (): string => daemon.log();
  const runnerOf = async (config: Record<string, unknown>, connector?: ConnectorConfig): Promise<Host> => {
    const host = await Host.start({ env: { FLEETINGD_SOCKET: daemon.socket } });
    await host.init(config, connector && { connectorConfig: connector });
    return host;
  };
  /** One job's instance, from the request to its end. */
  const withInstance = async (
    host: Host,
    use: (info: ConnectInfoResponse, id: string) => Promise<void>,
  ): Promise<void> => {
    assert.equal(await host.increase(1), 1);
    const [{ instance: id } = { instance: "" }] = await host.updateUntil((states) =>
      states.some(({ state }) => state === State.RUNNING),
    );
    await use(await host.connectInfo(id), id);
    assert.deepEqual(await host.decrease(id), [id]);
    await host.updateUntil((states) => states.length === 0);
  };
  /** Who they are there. */
  const logInBy = async (
    { InternalAddr: host, connector }: ConnectInfoResponse,
    credentials: { privateKey: string } | { password: string },
  ): Promise<string> => {
    const login = new NodeSSH();
    await login.connect({ host, username: connector?.username ?? "", ...credentials });
    const { stdout } = await login.execCommand("id -un");
    login.dispose();
    return stdout;
  };

  test("is configured as the how-to says, and serves a job", async () => {
    const check = await cli("config", "check");
    assert.equal(check.exitCode, 0, check.stderr);
    const { stdout } = await cli("--socket", daemon.socket, "status");
    assert.match(stdout, /director/);
    const host = await runnerOf({ pool: "ci" });
    try {
      await withInstance(host, async (info, id) => {
        const privateKey = Buffer.from(info.connector?.key ?? []).toString();
        assert.equal(await logInBy(info, { privateKey }), "root");
        assert.match(site.vappOf(id)?.description ?? "", /^Made by fleetingd \[/);
      });
    } finally {
      await host.close();
    }
  });

  test("the doctor asks it, and says what is wrong with it", async () => {
    const found = async (): Promise<Report["findings"][number] | undefined> => {
      const { stdout } = await cli("doctor", "--json", "--socket", daemon.socket);
      return reportSchema.parse(JSON.parse(stdout)).findings.find(({ area }) => area === "source");
    };
    const well = await found();
    assert.equal(well?.verdict, "ok", well?.message);
    assert.match(well?.message ?? "", /^source director: the Cloud Director https:.* answers$/);
    site.director.world.tokens.clear();
    const ill = await found();
    site.director.world.tokens.add(API_TOKEN);
    assert.equal(ill?.verdict, "fail");
    assert.match(ill?.message ?? "", /^source director: .* refuses the API token/);
    assert.match(ill?.remedy ?? "", /revoked or has expired/);
  });

  // As its README has it; what it calls VMs is none of the stand-in's.
  const README = {
    name: "my-runner",
    org: NAMES.org,
    token: API_TOKEN,
    virtual_datacenter: NAMES.vdc,
    network: NAMES.network,
    ip_allocation_mode: "POOL",
    instance_group_name: "gitlab-runners",
    vapp_name_prefix: "gitlab-runner",
    catalog: NAMES.catalog,
    template: NAMES.linux,
    storage_profile: NAMES.storageProfile,
    cpu_count: 4,
    cores_per_socket: 2,
    memory_mb: 8192,
    disk_size_gb: 100,
    debug_server_addr: "127.0.0.1:27060",
  };
  const CONNECTOR: ConnectorConfig = {
    os: "",
    arch: "",
    protocol: "",
    username: "root",
    password: "",
    key: Buffer.alloc(0),
    useStaticCredentials: true,
    keepalive: 0n,
    timeout: 1_800_000_000_000n,
    protocolPort: 0n,
  };
  const otherPlugins = (connector: Partial<ConnectorConfig>): Promise<Host> =>
    runnerOf({ ...README, url: `${site.director.url}/api` }, { ...CONNECTOR, ...connector });

  test("takes fleeting-plugin-vcd's configuration with the runner's own password", async () => {
    const host = await otherPlugins({ password: "your-password" });
    try {
      await withInstance(host, async (info, id) => {
        assert.equal(info.connector?.password, "your-password");
        assert.equal(await logInBy(info, { password: "your-password" }), "root");
        const vapp = site.vappOf(id);
        assert.match(vapp?.name ?? "", /^gitlab-runner-/);
        assert.equal(vapp?.vms[0]?.storageProfile, NAMES.storageProfile);
        assert.equal((await fetch("http://127.0.0.1:27060/")).status, 200);
      });
    } finally {
      await host.close();
    }
    assert.ok(!log().includes("your-password"), "the password is in the log");
    assert.ok(!log().includes(API_TOKEN), "the token is in the log");
  });

  test("takes it with the runner's own key", async () => {
    const { privateKey } = generateSshKeyPair("runner");
    const host = await otherPlugins({ key: Buffer.from(privateKey) });
    try {
      await withInstance(host, async (info, id) => {
        assert.equal(Buffer.from(info.connector?.key ?? []).toString(), privateKey);
        assert.equal(await logInBy(info, { privateKey }), "root");
        const [vm] = site.vappOf(id)?.vms ?? [];
        assert.deepEqual(vm?.users.authorizedKeys, [publicKeyOf(privateKey)]);
        assert.equal(textOf(vm.customization, "AdminPasswordAuto"), "true");
      });
    } finally {
      await host.close();
    }
  });
});
