/** IPv6 of VMs: what is open with a prefix of its own, what is shut all the same, and that without one there is none. */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { exists } from "../../../src/host/files.ts";
import { run } from "../../../src/host/run.ts";
import { createFabric, type Fabric } from "../../../src/network/fabric.ts";
import { DEFAULT_POLICY } from "../../../src/network/policy.ts";
import { parseVmSubnet, parseVmSubnet6, slotNetwork } from "../../../src/network/slots.ts";
import { needsNamespace } from "../../helpers/namespace.ts";
import {
  comesAbout,
  expectingAnswers,
  GUEST_DEVICE,
  heardSince,
  ip,
  NO_ANSWER_MS,
  openGuest,
  openHost,
  openNeighbour,
  openOurChains,
  type Place,
} from "../../helpers/netns.ts";
import { failOnLeaks } from "../../helpers/suite.ts";

const HOST = "2001:db8:f::1";
const OUTSIDE = "2001:db8:f::2";
const METADATA = "fd00:ec2::254";
const DENIED = "2001:db8:d::2";
const WEB = 8080;

const subnet = parseVmSubnet("172.16.120.");
const [local, routed] = [parseVmSubnet6("fd12:3456:789a::/64"), parseVmSubnet6("2001:db8:1::/64")];
const alice = slotNetwork(subnet, 0, local);
const bob = slotNetwork(subnet, 1, routed);
const carol = slotNetwork(subnet, 2);
const six = (network: typeof alice) => network.ipv6 ?? assert.fail("has no IPv6");

failOnLeaks();

describe("IPv6", { skip: needsNamespace() }, () => {
  let fabric: Fabric;
  let host: Place;
  let outside: Place;
  const guests: Record<string, Place> = {};
  const guest = (name: string): Place => guests[name] ?? assert.fail(name);
  const reaches = async (answer: Promise<string | undefined>): Promise<boolean> =>
    (await answer) !== undefined;

  before(async () => {
    host = await openHost();
    outside = await openNeighbour("outside", "egress0", ["203.0.113.1", "203.0.113.2"]);
    await ip("address", "add", `${HOST}/64`, "dev", "egress0", "nodad");
    await outside.ip("address", "add", `${OUTSIDE}/64`, "dev", "uplink", "nodad");
    for (const address of [METADATA, DENIED]) {
      await outside.ip("address", "add", `${address}/128`, "dev", "lo", "nodad");
    }
    // Of the two prefixes, the outside knows a way only to the one that is routed.
    await outside.ip("route", "add", routed.cidr, "via", HOST);
    await ip("-6", "route", "add", "default", "via", OUTSIDE);
    if (!(await exists("/proc/sys/net/ipv6/conf/egress0/force_forwarding"))) {
      await run("sh", ["-c", "echo 1 >/proc/sys/net/ipv6/conf/all/forwarding"]);
    }
    for (const protocol of ["tcp", "udp"] as const) {
      await outside.listen(protocol, { address: "::", port: WEB });
      await host.listen(protocol, { address: "::", port: WEB });
    }
    fabric = createFabric({
      subnets: [subnet],
      subnets6: [local, routed],
      policies: [{ ...DEFAULT_POLICY, name: "ci", deny: ["2001:db8:d::/48"] }],
    });
    await fabric.open();
    for (const [name, network] of Object.entries({ alice, bob, carol })) {
      await fabric.attach({ network, egressInterface: "egress0", policy: "ci" });
      guests[name] = await openGuest(name, network);
      await guests[name].listen("tcp", { address: "::", port: WEB });
      await guests[name].listen("udp", { address: "::", port: WEB });
    }
  });

  after(async () => {
    await fabric.close();
    for (const place of [...Object.values(guests), outside, host]) await place.close();
  });

  test("addresses follow from the slot", () => {
    assert.deepEqual(six(bob), {
      prefixLength: 126,
      gateway: "2001:db8:1::5",
      address: "2001:db8:1::6",
      linkLocal: "fe80::fc:acff:fe10:7806",
    });
  });

  describe("open", () => {
    test("the outside: with the host's address from a local prefix, with its own from a routed one", () =>
      expectingAnswers(async () => {
        for (const probe of ["tcp", "udp"] as const) {
          assert.equal(await guest("alice")[probe]({ address: OUTSIDE, port: WEB }), HOST);
          assert.equal(await guest("bob")[probe]({ address: OUTSIDE, port: WEB }), six(bob).address);
        }
        for (const name of ["alice", "bob"]) assert.equal(await guest(name).ping(OUTSIDE), true);
      }));

    test("the gateway by echo, and the host's own way in", () =>
      expectingAnswers(async () => {
        for (const [name, network] of Object.entries({ alice, bob })) {
          assert.equal(await guest(name).ping(six(network).gateway), true);
          assert.equal(await host.ping(six(network).address), true);
          assert.equal(await host.tcp({ address: six(network).address, port: WEB }), six(network).gateway);
        }
      }));

    test("both families count", () =>
      expectingAnswers(async () => {
        const before = (await fabric.counters()).get(bob.tapName)?.sentPackets ?? 0;
        await guest("bob").ping(OUTSIDE);
        assert.ok(((await fabric.counters()).get(bob.tapName)?.sentPackets ?? 0) > before);
      }));
  });

  /** Ways that must be shut; each says whether it was open. */
  const ways: Record<string, () => Promise<boolean>> = {
    "another VM by TCP": () => reaches(guest("alice").tcp({ address: six(bob).address, port: WEB })),
    "another VM by UDP": () => reaches(guest("alice").udp({ address: six(bob).address, port: WEB })),
    "another VM by echo": () => guest("alice").ping(six(bob).address),
    "the host by TCP at the gateway": () =>
      reaches(guest("bob").tcp({ address: six(bob).gateway, port: WEB })),
    "the host by UDP at its outer address": () => reaches(guest("bob").udp({ address: HOST, port: WEB })),
    "the host by echo at its outer address": () => guest("bob").ping(HOST),
    "a metadata address": () => reaches(guest("alice").tcp({ address: METADATA, port: WEB })),
    "what the pool denies": () => reaches(guest("alice").tcp({ address: DENIED, port: WEB })),
    "a VM from the outside": () => reaches(outside.tcp({ address: six(bob).address, port: WEB })),
    "another VM's address as the source": () => arrivesFrom(six(alice).address),
    "an address of nobody as the source": () => arrivesFrom("2001:db8:77::77"),
    "an answer of a DHCP server": async () => {
      const before = (await outside.received()).length;
      await guest("bob").run("perl", "-e", SEND_FROM_PORT, "67", OUTSIDE, String(WEB), "offer");
      return heardSince(outside, before, "offer");
    },
    "a router advertisement": async () => {
      await ip("-6", "route", "flush", "dev", bob.tapName, "proto", "ra");
      await guest("bob").run("perl", "-e", ADVERTISE, GUEST_DEVICE);
      return comesAbout(async () => (await ip("-6", "route", "show", "proto", "ra")).includes(bob.tapName));
    },
  };

  async function arrivesFrom(address: string): Promise<boolean> {
    const [place, count] = [guest("bob"), (await outside.received()).length];
    await place.ip("address", "add", `${address}/128`, "dev", GUEST_DEVICE, "nodad");
    await place.udp(
      { address: OUTSIDE, port: WEB },
      { from: address, payload: "spoofed", timeoutMs: NO_ANSWER_MS },
    );
    await place.ip("address", "delete", `${address}/128`, "dev", GUEST_DEVICE);
    return heardSince(outside, count, "spoofed");
  }

  describe("shut", () => {
    before(async () => {
      // As if somebody had the host believe in routers, on this interface too.
      for (const [name, value] of [
        ["accept_ra", "2"],
        ["accept_ra_defrtr", "1"],
      ]) {
        await run("sh", ["-c", `echo ${value} >/proc/sys/net/ipv6/conf/${bob.tapName}/${name}`]);
      }
    });
    for (const [name, isOpen] of Object.entries(ways)) {
      test(name, async () => assert.equal(await isOpen(), false));
    }
  });

  describe("off for a pool without a prefix", () => {
    test("none leaves the VM, whatever it gives itself", async () => {
      const place = guest("carol");
      const heard = (await outside.received()).length;
      await place.ip("address", "add", "2001:db8:1::a/126", "dev", GUEST_DEVICE, "nodad");
      await place.ip("-6", "route", "add", "default", "via", "2001:db8:1::9", "onlink", "dev", GUEST_DEVICE);
      await place.ip(
        "neighbour",
        "replace",
        "2001:db8:1::9",
        "lladdr",
        "02:fc:00:00:00:01",
        "dev",
        GUEST_DEVICE,
      );
      assert.equal(await place.ping(OUTSIDE), false);
      assert.equal(await reaches(place.udp({ address: OUTSIDE, port: WEB })), false);
      assert.equal((await outside.received()).length, heard);
    });

    test("the host has none on its TAP", async () => {
      assert.equal(await ip("-6", "address", "show", "dev", carol.tapName), "");
    });
  });

  describe("control: the same ways with all of our chains open", () => {
    before(async () => {
      await openOurChains();
      // Nothing is translated now, and answers need a way back.
      await outside.ip("route", "add", local.cidr, "via", HOST);
    });
    for (const [name, isOpen] of Object.entries(ways)) {
      test(name, async () => assert.equal(await expectingAnswers(isOpen), true));
    }
  });
});

/** Sends a text from a port: `port address port text`. */
const SEND_FROM_PORT = `
  use Socket qw(:DEFAULT inet_pton pack_sockaddr_in6);
  my ($from, $address, $to, $text) = @ARGV;
  socket(my $socket, AF_INET6, SOCK_DGRAM, 0) or die $!;
  bind($socket, pack_sockaddr_in6($from, inet_pton(AF_INET6, "::"))) or die $!;
  send($socket, $text, 0, pack_sockaddr_in6($to, inet_pton(AF_INET6, $address))) or die $!;
  select(undef, undef, undef, 0.2);
`;

/** Says to all nodes that this machine is a router (RFC 4861), for half an hour. */
const ADVERTISE = `
  use Socket qw(:DEFAULT inet_pton pack_sockaddr_in6);
  socket(my $socket, AF_INET6, SOCK_RAW, 58) or die $!;
  setsockopt($socket, SOL_SOCKET, 25, pack("Z16", $ARGV[0])) or die $!;
  setsockopt($socket, 41, 18, pack("i", 255)) or die $!;
  my $message = pack("C C n C C n N N", 134, 0, 0, 64, 0, 1800, 0, 0);
  send($socket, $message, 0, pack_sockaddr_in6(0, inet_pton(AF_INET6, "ff02::1"))) or die $!;
  select(undef, undef, undef, 0.2);
`;
