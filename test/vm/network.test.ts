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
import { SERVICE_ADDRESS } from "../../src/network/services.ts";
import { logIn, poolToml, startTestDaemon, type TestDaemon } from "../helpers/daemon.ts";
import { nameOf, PROBE, type Way } from "../helpers/guest-probe.ts";
import { needsNamespace } from "../helpers/namespace.ts";
import {
  expectingAnswers,
  heardSince,
  ip,
  openHost,
  openNeighbour,
  openOurChains,
  type Place,
} from "../helpers/netns.ts";
import { failOnLeaks } from "../helpers/suite.ts";

const [HOST, OUTSIDE] = ["203.0.113.2", "203.0.113.1"];
const [HOST6, OUTSIDE6] = ["2001:db8:f::2", "2001:db8:f::1"];
const [METADATA, METADATA6] = ["169.254.169.254", "fd00:ec2::254"];
const PREFIX6 = "2001:db8:1::/64";
const [WEB, NAMED, ECHO, ALL] = [8080, 8443, 9000, 9004];
const TIMEOUT_MS = 10 * 60_000;
/** By a way that is open an answer comes; by one that is shut none has come for so long. */
const [OPEN_SECONDS, SHUT_SECONDS] = [60, 6];
const [OTHER_HOST, OTHER] = ["198.51.100.1", "198.51.100.2"];
const [OTHER_HOST6, OTHER6] = ["2001:db8:e::1", "2001:db8:e::2"];
const SUBNET = "172.16.120.0/24";
/** Golden images do not depend on it, so this file needs none of its own. */
const SERVICES = '[services]\ndns = "127.0.0.1:53"\n';
const TOML = {
  warm_instances: 2,
  vm_subnet: SUBNET,
  dns_servers: [OUTSIDE],
  vm_subnet6: PREFIX6,
  host_services: [`tcp/${NAMED}`],
};

failOnLeaks();

describe("the network of real VMs", { skip: needsNamespace() }, () => {
  let outside: Place;
  let host: Place;
  let other: Place;
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
    // So that it could answer, and begin, if the rules let it.
    await outside.ip("route", "add", SUBNET, "via", HOST);
    other = await openNeighbour("other", "other0", [OTHER_HOST, OTHER]);
    await ip("address", "add", `${OTHER_HOST6}/64`, "dev", "other0", "nodad");
    await other.ip("address", "add", `${OTHER6}/64`, "dev", "uplink", "nodad");
    for (const [family, via] of [
      ["-4", OTHER_HOST],
      ["-6", OTHER_HOST6],
    ] as const) {
      await other.ip(family, "route", "add", "default", "via", via);
    }
    const forcing = "/proc/sys/net/ipv6/conf/other0/force_forwarding";
    const forwarding = [
      "/proc/sys/net/ipv4/conf/other0/forwarding",
      ...((await exists(forcing)) ? [forcing] : []),
    ];
    for (const path of forwarding) await writeFile(path, "1");
    // Not at a port where VMs would answer themselves. (Nobody can answer from here to a link-local address of IPv6.)
    await host.listen("udp", { address: "0.0.0.0", port: ALL });
    await host.listen("tcp", { address: "127.0.0.1", port: 53 });
    await host.listen("udp", { address: "127.0.0.1", port: 53 });
    await ip("route", "add", "default", "via", OUTSIDE);
    await ip("-6", "route", "add", "default", "via", OUTSIDE6);
    if (!(await exists("/proc/sys/net/ipv6/conf/egress0/force_forwarding"))) {
      await run("sh", ["-c", "echo 1 >/proc/sys/net/ipv6/conf/all/forwarding"]);
    }
    for (const place of [host, outside, other]) {
      for (const port of [WEB, NAMED]) await place.listen("tcp", { address: "::", port });
      await place.listen("udp", { address: "::", port: WEB });
      await place.listen("udp", { address: "0.0.0.0", port: NAMED });
    }
    await outside.stream("echo", { address: "::", port: ECHO });
    daemon = await startTestDaemon({ pools: SERVICES + poolToml("default", TOML) });
    await daemon.prebuild("default");
    await daemon.untilWarm("default", 2);
    plugin = await daemon.attach({ pool: "default" });
    assert.equal(await plugin.increase(2), 2);
    const ids = (await plugin.update()).map(({ instance }) => instance);
    const infos = await Promise.all(ids.map((id) => plugin.connectInfo(id)));
    vms = await Promise.all(infos.map((info) => logIn(info)));
    for (const index of vms.keys()) {
      await output(index, `cat >/tmp/probe <<'END'\n${PROBE}\nEND`);
      await output(index, `nohup perl /tmp/probe serve ${WEB} >/dev/null 2>&1 </dev/null &`);
    }
  });

  after(async () => {
    for (const login of vms) login.close();
    const endedWell = await daemon?.stop();
    for (const place of [outside, other, host]) await place.close();
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
  const addressOf = (index: number, family: 4 | 6): Promise<string> =>
    output(index, `ip -${family} -o address show dev eth0 scope global | awk '{print $4}' | cut -d/ -f1`);
  const gatewayOf = (index: number, family: 4 | 6): Promise<string> =>
    output(index, `ip -${family} route show default | awk '{print $3; exit}'`);

  /** Which of these ways lead somewhere, from inside a VM: by those that have to, an answer is waited for as long as it takes. */
  const openWays = async (index: number, ways: readonly Way[], seconds = SHUT_SECONDS): Promise<string[]> => {
    const words = ways.map(({ protocol, address, port = 0 }) => `'${protocol} ${address} ${port}'`);
    const answers = await output(index, `sudo -n perl /tmp/probe ${seconds} ${words.join(" ")}`);
    assert.equal(answers.length, ways.length);
    return ways.filter((_, at) => answers[at] === "1").map((way) => nameOf(way));
  };
  const tcp = async (address: string, port: number, seconds?: number): Promise<boolean> =>
    (await openWays(0, [{ to: "", protocol: "tcp", address, port }], seconds)).length === 1;

  /** All ways that a VM has, and all that it must not have. */
  const waysOf = async (index: number): Promise<{ open: Way[]; shut: Way[] }> => {
    const [mine4, mine6, other4, other6] = await Promise.all([
      gatewayOf(index, 4),
      gatewayOf(index, 6),
      gatewayOf(1 - index, 4),
      gatewayOf(1 - index, 6),
    ]);
    const neighbours = await Promise.all([addressOf(1 - index, 4), addressOf(1 - index, 6)]);
    const everyProtocol = (to: string, address: string, port = WEB): Way[] =>
      (["tcp", "udp", "echo"] as const).map((protocol) => ({ to, protocol, address, port }));
    return {
      open: [
        ...[OUTSIDE, OUTSIDE6].flatMap((address) => everyProtocol("the outside", address)),
        ...[mine4, mine6].flatMap((address): Way[] => [
          { to: "the gateway", protocol: "echo", address },
          { to: "a named service", protocol: "tcp", address, port: NAMED },
        ]),
        ...(["tcp", "udp"] as const).map(
          (protocol): Way => ({ to: "the host's resolver", protocol, address: SERVICE_ADDRESS, port: 53 }),
        ),
      ],
      shut: [
        ...neighbours.flatMap((address): Way[] => [
          { to: "the other VM", protocol: "tcp", address, port: 22 },
          { to: "the other VM", protocol: "udp", address, port: WEB },
          { to: "the other VM", protocol: "echo", address },
        ]),
        ...[other4, other6].flatMap((address) => everyProtocol("the other VM's gateway", address)),
        ...[mine4, mine6].flatMap((address) =>
          everyProtocol("the host at the gateway", address).filter(({ protocol }) => protocol !== "echo"),
        ),
        ...[HOST, HOST6].flatMap((address) => everyProtocol("the host's outer address", address)),
        ...[METADATA, METADATA6].flatMap((address) => everyProtocol("metadata", address)),
        ...[OTHER, OTHER6].flatMap((address) => everyProtocol("another interface", address)),
        ...["255.255.255.255", "224.0.0.1"].map(
          (address): Way => ({ to: "all at once", protocol: "udp", address, port: ALL }),
        ),
      ],
    };
  };

  /** Which ways lead from the outside to the first VM. */
  const waysIn = async (): Promise<string[]> => {
    const tries = [await addressOf(0, 4), await addressOf(0, 6)].flatMap((address) => [
      {
        what: `TCP to ${address}`,
        isOpen: async () => (await outside.connect({ address, port: 22 }, 1)) > 0,
      },
      {
        what: `UDP to ${address}`,
        isOpen: async () => (await outside.udp({ address, port: WEB })) !== undefined,
      },
      { what: `echo to ${address}`, isOpen: () => outside.ping(address) },
    ]);
    const found: string[] = [];
    for (const { what, isOpen } of tries) if (await isOpen()) found.push(what);
    await outside.hangUp();
    return found;
  };

  /** With which sources that are not its own the first VM is heard outside. */
  const heardSources = async (round: string): Promise<string[]> => {
    const sources = [await addressOf(1, 4), await addressOf(1, 6), "192.0.2.77", "2001:db8:77::77"];
    for (const from of sources) {
      const [to, family] = from.includes(":") ? [OUTSIDE6, "-6"] : [OUTSIDE, "-4"];
      await output(0, `sudo -n perl /tmp/probe 'from ${to} ${WEB} ${family} ${from} ${round}'`);
    }
    const heard: string[] = [];
    for (const from of sources) if (await heardSince(outside, 0, `${round} from ${from}`)) heard.push(from);
    return heard;
  };

  test("every way that is open to a VM, and every way that is shut, from both at once", async () => {
    const tables = [await waysOf(0), await waysOf(1)];
    const found = await Promise.all(
      tables.map(async ({ open, shut }, index) => [
        await openWays(index, open, OPEN_SECONDS),
        await openWays(index, shut),
      ]),
    );
    for (const [index, { open }] of tables.entries()) assert.deepEqual(found[index], [open.map(nameOf), []]);
    assert.deepEqual(await waysIn(), []);
    assert.deepEqual(await heardSources("shut"), []);
  });

  test("control: with our chains open, all of these probes succeed", async () => {
    await openOurChains();
    const { shut } = await waysOf(0);
    const found = [
      await openWays(0, shut, OPEN_SECONDS),
      await expectingAnswers(waysIn),
      await expectingAnswers(() => heardSources("control")),
    ];
    await run("nft", ["delete", "table", "inet", "fleetingd"]);
    const isBack = async () =>
      (await run("nft", ["list", "tables"])).stdout.includes("table inet fleetingd\n") ? true : undefined;
    await waitFor(isBack, { timeoutMs: 60_000, intervalMs: 100, what: "the rules" });
    assert.deepEqual(found[0], shut.map(nameOf));
    assert.deepEqual([found[1]?.length, found[2]?.length], [6, 4]);
    assert.deepEqual(await openWays(0, shut), []);
  });

  test("the outside sees the host's IPv4 address, and the VM's own IPv6 address", async () => {
    const seenAt = (address: string) =>
      output(0, `timeout 60 bash -c 'exec 3<>/dev/tcp/${address}/${WEB}; cat <&3'`);
    assert.match(await seenAt(OUTSIDE), new RegExp(`${HOST}$`));
    assert.equal(await seenAt(OUTSIDE6), await addressOf(0, 6));
  });

  test("a policy that is loaded again cuts what it forbids, and nothing else", async () => {
    await output(
      0,
      `touch /tmp/say; nohup bash -c 'exec 3<>/dev/tcp/${OUTSIDE}/${ECHO}; while read -r line; do echo "$line" >&3; head -n 1 <&3; done < <(tail -n +1 -f /tmp/say) >/tmp/said' >/dev/null 2>&1 </dev/null &`,
    );
    /** Whether it comes back: it has to, so there is no hurry. */
    const says = async (word: string): Promise<boolean> => {
      await output(0, `echo ${word} >>/tmp/say`);
      return succeeds(0, `timeout 60 sh -c 'until grep -qx ${word} /tmp/said; do sleep 0.2; done'`);
    };
    assert.ok(await says("one"));
    await reload({ egress: "none", egress_allow: [`${OUTSIDE} tcp/${ECHO}`] });
    assert.ok(await says("two"), "the connection goes on");
    assert.equal(await tcp(OUTSIDE, WEB), false);
    assert.equal(await tcp(OUTSIDE6, WEB), false);
    await reload({});
    assert.ok(await says("three"));
    assert.ok(await tcp(OUTSIDE, WEB, OPEN_SECONDS));
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
      timeoutMs: 60_000,
      intervalMs: 50,
      what: "the configuration to be loaded again",
    });
  }
});
