/** Looking at real routes, interfaces and firewalls; and that nft really accepts what we write. */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { run } from "../../../src/host/run.ts";
import { detectForeignFirewalls } from "../../../src/network/foreign-firewalls.ts";
import {
  findSubnetOverlap,
  findSubnetOverlap6,
  resolveEgressInterface,
} from "../../../src/network/host-check.ts";
import { changeText, elementsOf } from "../../../src/network/nft-elements.ts";
import { rebuildText } from "../../../src/network/nft-text.ts";
import {
  DEFAULT_POLICY,
  type Policy,
  PRIVATE_PREFIXES,
  parseAllowed,
  parsePorts,
} from "../../../src/network/policy.ts";
import { parseVmSubnet, parseVmSubnet6, slotNetwork } from "../../../src/network/slots.ts";
import { needsNamespace } from "../../helpers/namespace.ts";
import { ip, openNeighbour, type Place } from "../../helpers/netns.ts";
import { failOnLeaks } from "../../helpers/suite.ts";

const subnet = parseVmSubnet("172.16.120.0/24");

const SERVICES = [
  { name: "dns", address: "127.0.0.1", port: 53 },
  { name: "registry_mirror", address: "127.255.255.254", port: 65_535 },
  { name: "package_cache", address: "127.0.0.0", port: 1 },
] as const;

/** Whatever pools may say, and names that nft could mind. */
const ODD_POLICIES: readonly Policy[] = [
  DEFAULT_POLICY,
  ...["-", "0", "drop", "accept", "fwd", "a".repeat(32), "all-"].map((name) => ({ ...DEFAULT_POLICY, name })),
  {
    name: "everything",
    egress: "none",
    deny: [
      ...PRIVATE_PREFIXES,
      ...PRIVATE_PREFIXES,
      "10.0.0.0/8",
      "10.1.0.0/16",
      "10.1.2.3/32",
      "fd00::/8",
      "::/1",
    ],
    allow: ["10.0.0.0/8", "10.1.2.3 tcp/1-65535", "fd00::/8 udp/53", "::1", "1.2.3.4/1"].map(parseAllowed),
    hostServices: ["tcp/1", "udp/65535", "tcp/1-65535"].map(parsePorts),
    services: SERVICES,
    upBytesPerSecond: 1,
    downBytesPerSecond: 1_250_000_000,
    maxConnections: 1_000_000,
    newConnectionsPerSecond: 100_000,
  },
];

failOnLeaks();

describe("the host", { skip: needsNamespace() }, () => {
  let outside: Place;
  before(async () => {
    outside = await openNeighbour("outside", "egress0", ["203.0.113.1", "203.0.113.2"]);
  });
  after(async () => {
    await outside.close();
    assert.deepEqual(JSON.parse(await ip("-j", "link", "show", "type", "veth")), []);
    assert.equal((await run("nft", ["list", "ruleset"])).stdout, "");
  });

  test("egress: `auto` follows the default route, and says so if there is none", async () => {
    const none = await resolveEgressInterface("auto");
    assert.equal(none.interface, undefined);
    assert.match(none.problem ?? "", /no IPv4 default route/);
    await ip("route", "add", "default", "via", "203.0.113.2", "metric", "100");
    assert.deepEqual(await resolveEgressInterface("auto"), { interface: "egress0", problem: undefined });
    assert.deepEqual(await resolveEgressInterface("egress0"), { interface: "egress0", problem: undefined });
    const other = await resolveEgressInterface("lo");
    assert.equal(other.interface, "lo");
    assert.match(other.problem ?? "", /default route leads through egress0, so VMs reach through lo only/);
    await ip("route", "delete", "default");
  });

  test("egress: a name that does not exist, or is none", async () => {
    await assert.rejects(resolveEgressInterface("eth9"), {
      code: "INVALID_CONFIG",
      message: "the egress interface eth9 does not exist on this host",
      hint: /"auto" or one of: .*egress0/,
    });
    await assert.rejects(resolveEgressInterface('eth0"; drop'), { code: "INVALID_CONFIG" });
  });

  test("overlaps are found in addresses, routes and other tables", async () => {
    assert.equal(await findSubnetOverlap(subnet), undefined);
    assert.match(
      (await findSubnetOverlap(parseVmSubnet("203.0.113.0/28"))) ?? "",
      /203\.0\.113\.0\/24 on egress0/,
    );
    await ip("route", "add", "172.16.0.0/16", "via", "203.0.113.2", "table", "77");
    assert.equal(
      await findSubnetOverlap(subnet),
      "the VM subnet 172.16.120.0/24 overlaps the host's route 172.16.0.0/16 via 203.0.113.2 on egress0",
    );
    await ip("route", "flush", "table", "77");
    await ip("address", "add", "172.16.120.200/32", "dev", "lo");
    assert.match((await findSubnetOverlap(subnet)) ?? "", /172\.16\.120\.200.* on lo/);
    await ip("address", "delete", "172.16.120.200/32", "dev", "lo");
  });

  test("overlaps of IPv6 are found, but the default route is none", async () => {
    const subnet6 = parseVmSubnet6("2001:db8:1::/64");
    await ip("address", "add", "2001:db8:f::1/64", "dev", "egress0", "nodad");
    await ip("-6", "route", "add", "default", "via", "2001:db8:f::2");
    await ip("-6", "route", "add", "unreachable", "2001:db8:1::/48");
    assert.equal(await findSubnetOverlap6(subnet6), undefined);
    assert.match(
      (await findSubnetOverlap6(parseVmSubnet6("2001:db8:f::/100"))) ?? "",
      /2001:db8:f::\/100 overlaps the host's route 2001:db8:f::\/64 on egress0/,
    );
    await ip("-6", "route", "flush", "2001:db8:1::/48");
    await ip("-6", "route", "delete", "default");
  });

  test("a forward chain that drops is reported until it lets VMs through, and never changed", async () => {
    assert.deepEqual(await detectForeignFirewalls(subnet), []);
    const chain = "chain ip filter FORWARD { type filter hook forward priority filter; policy drop; }";
    await run("nft", ["-f", "-"], {
      input: `add table ip filter\nadd ${chain}\nadd chain ip filter DOCKER-USER\n`,
    });
    const before = (await run("nft", ["-a", "list", "ruleset"])).stdout;
    const [advice] = await detectForeignFirewalls(subnet);
    assert.match(advice ?? "", /Docker has set the policy.*iptables -I DOCKER-USER -i fltap\+ -j ACCEPT/);
    assert.equal((await run("nft", ["-a", "list", "ruleset"])).stdout, before);
    await run("nft", ["-f", "-"], { input: 'insert rule ip filter DOCKER-USER iifname "fltap*" accept\n' });
    assert.deepEqual(await detectForeignFirewalls(subnet), []);
    await run("nft", ["delete", "table", "ip", "filter"]);
  });

  test("nft accepts the text for any options", async () => {
    const elements = elementsOf(slotNetwork(subnet, 7), "br-lan.100");
    const none = {
      subnets: [],
      subnets6: [],
      dnsServers: [],
      hostServices: [],
      services: [],
      processUsers: undefined,
      policies: new Map([[DEFAULT_POLICY.name, DEFAULT_POLICY]]),
    };
    const services = [{ address: "192.0.2.1", protocol: "udp", port: 53 }] as const;
    for (const options of [
      none,
      {
        ...none,
        subnets: ["10.0.0.0/8", "10.1.0.0/16", "169.254.0.0/16"],
        dnsServers: ["192.0.2.1", "192.0.2.1", "169.254.169.254"],
        hostServices: services,
        services: SERVICES,
        processUsers: { first: 1, last: 2 ** 32 - 3 },
      },
      { ...none, policies: new Map(ODD_POLICIES.map((policy) => [policy.name, policy])) },
    ]) {
      const text = rebuildText(options, elements) + changeText(elements, []);
      await run("nft", ["-c", "-f", "-"], { input: text });
    }
  });
});
