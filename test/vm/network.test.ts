/** The table of ways from inside real VMs, by IPv4 and IPv6, and a policy that changes while they run. */
import assert from "node:assert/strict";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import type { PluginClient } from "../../src/cli/demo/plugin-client.ts";
import { exists } from "../../src/host/files.ts";
import { run } from "../../src/host/run.ts";
import type { Login } from "../../src/host/ssh.ts";
import { waitFor } from "../../src/host/wait.ts";
import { logIn, poolToml, startTestDaemon, type TestDaemon } from "../helpers/daemon.ts";
import { needsNamespace } from "../helpers/namespace.ts";
import { ip, openHost, openNeighbour, type Place } from "../helpers/netns.ts";
import { failOnLeaks } from "../helpers/suite.ts";

const [HOST, OUTSIDE] = ["203.0.113.2", "203.0.113.1"];
const [HOST6, OUTSIDE6] = ["2001:db8:f::2", "2001:db8:f::1"];
const [METADATA, METADATA6] = ["169.254.169.254", "fd00:ec2::254"];
const PREFIX6 = "2001:db8:1::/64";
const [WEB, NAMED, ECHO] = [8080, 8443, 9000];
const TIMEOUT_MS = 60_000;
const TOML = {
  warm_instances: 2,
  dns_servers: [OUTSIDE],
  vm_subnet6: PREFIX6,
  host_services: [`tcp/${NAMED}`],
};

failOnLeaks();

describe("the network of real VMs", { skip: needsNamespace() }, () => {
  let outside: Place;
  let host: Place;
  let daemon: TestDaemon | undefined;
  let plugin: PluginClient;
  let vms: Login[] = [];

  before(async () => {
    host = await openHost();
    outside = await openNeighbour("outside", "egress0", [HOST, OUTSIDE]);
    await ip("address", "add", `${HOST6}/64`, "dev", "egress0", "nodad");
    await outside.ip("address", "add", `${OUTSIDE6}/64`, "dev", "uplink", "nodad");
    for (const address of [`${METADATA}/32`, `${METADATA6}/128`]) {
      await outside.ip("address", "add", address, "dev", "lo");
    }
    await outside.ip("route", "add", PREFIX6, "via", HOST6);
    await ip("route", "add", "default", "via", OUTSIDE);
    await ip("-6", "route", "add", "default", "via", OUTSIDE6);
    if (!(await exists("/proc/sys/net/ipv6/conf/egress0/force_forwarding"))) {
      await run("sh", ["-c", "echo 1 >/proc/sys/net/ipv6/conf/all/forwarding"]);
    }
    for (const place of [host, outside]) {
      for (const port of [WEB, NAMED]) await place.listen("tcp", { address: "::", port });
      await place.listen("udp", { address: "::", port: WEB });
      await place.listen("udp", { address: "0.0.0.0", port: NAMED });
    }
    await outside.stream("echo", { address: "::", port: ECHO });
    daemon = await startTestDaemon({ pools: poolToml("default", TOML) });
    await daemon.prebuild("default");
    await daemon.untilWarm("default", 2);
    plugin = await daemon.attach({ pool: "default" });
    assert.equal(await plugin.increase(2), 2);
    const ids = (await plugin.update()).map(({ instance }) => instance);
    const infos = await Promise.all(ids.map((id) => plugin.connectInfo(id)));
    vms = await Promise.all(infos.map((info) => logIn(info)));
  });

  after(async () => {
    for (const login of vms) login.close();
    const endedWell = await daemon?.stop();
    await outside.close();
    await host.close();
    for (const family of ["-4", "-6"]) await ip(family, "route", "flush", "table", "main");
    assert.ok(endedWell, daemon?.log());
  });

  const vm = (index: number): Login => vms[index] ?? assert.fail(`no VM ${index}`);
  const output = async (index: number, command: string): Promise<string> => {
    const { exitCode, stdout, stderr } = await vm(index).exec(command, TIMEOUT_MS);
    assert.equal(exitCode, 0, `${command}: ${stdout}${stderr}`);
    return stdout.trim();
  };
  const succeeds = async (index: number, command: string): Promise<boolean> =>
    (await vm(index).exec(command, TIMEOUT_MS)).exitCode === 0;
  const tcp = (address: string, port: number): Promise<boolean> =>
    succeeds(0, `timeout 3 bash -c '</dev/tcp/${address}/${port}'`);
  const udp = (address: string, port: number): Promise<boolean> =>
    succeeds(
      0,
      `timeout 3 bash -c 'exec 3<>/dev/udp/${address}/${port}; echo hello >&3; head -c 1 <&3 | grep -q .'`,
    );
  const echo = (address: string): Promise<boolean> => succeeds(0, `ping -c 1 -W 2 ${address}`);

  const addressOf = (index: number, family: 4 | 6): Promise<string> =>
    output(index, `ip -${family} -o address show dev eth0 scope global | awk '{print $4}' | cut -d/ -f1`);
  const gatewayOf = (index: number, family: 4 | 6): Promise<string> =>
    output(index, `ip -${family} route show default | awk '{print $3; exit}'`);

  const families = [
    { family: 4, hostAddress: HOST, outsideAddress: OUTSIDE, metadata: METADATA },
    { family: 6, hostAddress: HOST6, outsideAddress: OUTSIDE6, metadata: METADATA6 },
  ] as const;
  for (const { family, hostAddress, outsideAddress, metadata } of families) {
    test(`IPv${family}: what is open`, async () => {
      const gateway = await gatewayOf(0, family);
      assert.ok(await tcp(outsideAddress, WEB), "the outside by TCP");
      assert.ok(await udp(outsideAddress, WEB), "the outside by UDP");
      assert.ok(await echo(outsideAddress), "the outside by echo");
      assert.ok(await echo(gateway), "the gateway by echo");
      assert.ok(await tcp(gateway, NAMED), "a named service");
    });

    test(`IPv${family}: what is shut`, async () => {
      const [gateway, other] = [await gatewayOf(0, family), await addressOf(1, family)];
      assert.equal(await host.connect({ address: other, port: 22 }, 1), 1, "control: the host reaches it");
      await host.hangUp();
      const found = await Promise.all([
        ...[
          { address: other, port: 22 },
          { address: gateway, port: WEB },
          { address: hostAddress, port: WEB },
          { address: hostAddress, port: NAMED },
          { address: metadata, port: WEB },
        ].map(async ({ address, port }) => ((await tcp(address, port)) ? `${address} by TCP ${port}` : [])),
        ...[gateway, hostAddress, metadata].map(async (address) =>
          (await udp(address, WEB)) ? `${address} by UDP` : [],
        ),
        ...[other, hostAddress, metadata].map(async (address) =>
          (await echo(address)) ? `${address} by echo` : [],
        ),
      ]);
      assert.deepEqual(found.flat(), []);
    });
  }

  test("the outside sees the host's IPv4 address, and the VM's own IPv6 address", async () => {
    const seenAt = (address: string) =>
      output(0, `timeout 5 bash -c 'exec 3<>/dev/tcp/${address}/${WEB}; cat <&3'`);
    assert.match(await seenAt(OUTSIDE), new RegExp(`${HOST}$`));
    assert.equal(await seenAt(OUTSIDE6), await addressOf(0, 6));
  });

  test("a policy that is loaded again cuts what it forbids, and nothing else", async () => {
    await output(
      0,
      `nohup bash -c 'exec 3<>/dev/tcp/${OUTSIDE}/${ECHO}; while read -r line; do echo "$line" >&3; head -n 1 <&3; done < <(tail -f /tmp/say) >/tmp/said' >/dev/null 2>&1 </dev/null & touch /tmp/say; sleep 1`,
    );
    const says = async (word: string): Promise<boolean> => {
      await output(0, `echo ${word} >>/tmp/say`);
      return succeeds(
        0,
        `for i in $(seq 30); do grep -qx ${word} /tmp/said && exit 0; sleep 0.1; done; exit 1`,
      );
    };
    assert.ok(await says("one"));
    await reload({ egress: "none", egress_allow: [`${OUTSIDE} tcp/${ECHO}`] });
    assert.ok(await says("two"), "the connection goes on");
    assert.equal(await tcp(OUTSIDE, WEB), false);
    assert.equal(await tcp(OUTSIDE6, WEB), false);
    await reload({});
    assert.ok(await says("three"));
    assert.ok(await tcp(OUTSIDE, WEB));
  });

  async function reload(more: Record<string, unknown>): Promise<void> {
    assert.ok(daemon);
    const path = join(daemon.directory, "config.toml");
    const before = await readFile(path, "utf8");
    const own = before.slice(0, before.indexOf("[pools."));
    await writeFile(path, own + poolToml("default", { ...TOML, ...more }), { mode: 0o600 });
    const loaded = () => daemon?.log().split("the configuration was read again").length ?? 0;
    const count = loaded();
    daemon.process.kill("SIGHUP");
    await waitFor(async () => (loaded() > count ? true : undefined), {
      timeoutMs: 20_000,
      intervalMs: 50,
      what: "the configuration to be loaded again",
    });
  }
});
