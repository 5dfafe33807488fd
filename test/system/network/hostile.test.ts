/**
 * What a hostile guest sends that no program of its own would: frames made by hand, at a real TAP. Each is tried again
 * with our chains open, when it has to arrive, or the test would prove nothing.
 */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { exists } from "../../../src/host/files.ts";
import { run } from "../../../src/host/run.ts";
import { sleep, waitFor } from "../../../src/host/wait.ts";
import { createFabric } from "../../../src/network/fabric.ts";
import { parseVmSubnet, parseVmSubnet6, slotNetwork } from "../../../src/network/slots.ts";
import { GATEWAY_MAC } from "../../../src/network/taps.ts";
import {
  ETHERTYPE_IPV6,
  ethernet,
  type Frame,
  fragments,
  fragments6,
  ipv4,
  ipv6,
  redirect,
  sendFrames,
  sourceRoute,
  tooLarge,
  udp,
  vlan,
} from "../../helpers/frames.ts";
import { needsNamespace } from "../../helpers/namespace.ts";
import {
  expectingAnswers,
  ip,
  openGuest,
  openHost,
  openNeighbour,
  openOurChains,
  type Place,
} from "../../helpers/netns.ts";
import { failOnLeaks } from "../../helpers/suite.ts";

const [HOST, OUTSIDE] = ["203.0.113.1", "203.0.113.2"] as const;
const PORT = 8080;
const BROADCAST_MAC = "ff:ff:ff:ff:ff:ff";
const subnet = parseVmSubnet("172.16.120.");
const subnet6 = parseVmSubnet6("2001:db8:1::/64");
const [alice, bob] = [slotNetwork(subnet, 0, subnet6), slotNetwork(subnet, 1, subnet6)];
const [alice6, bob6] = [alice.ipv6 ?? assert.fail(), bob.ipv6 ?? assert.fail()];
const [HOST6, OUTSIDE6] = ["2001:db8:f::1", "2001:db8:f::2"] as const;
const PORT6 = 8086;
const METADATA = "169.254.169.254";
const GROUP = "239.1.2.3";
const ARRIVAL_MS = 60_000;
const NO_ARRIVAL_MS = 300;

failOnLeaks();

describe("frames made by hand", { skip: needsNamespace() }, () => {
  const fabric = createFabric({
    subnets: [subnet],
    subnets6: [subnet6],
    services: [{ name: "registry_mirror", address: "127.0.0.1", port: 5000 }],
  });
  let host: Place;
  let outside: Place;
  let guest: Place;
  let neighbour: Place;
  let sent = 0;

  /** An unusual datagram from the guest, with a text of its own. */
  type Make = (text: string) => Frame[];
  const datagram = (to: string, text: string, from: string = alice.address): Buffer =>
    ipv4(from, to, udp(from, to, 4000, PORT, text));
  const plain = (payload: Buffer): Frame => ethernet(alice.macAddress, GATEWAY_MAC, payload);

  const datagram6 = (to: string, text: string, from: string = alice6.address): Buffer =>
    udp(from, to, 4000, PORT6, text);
  const plain6 = (payload: Buffer, to: string = GATEWAY_MAC): Frame =>
    ethernet(alice.macAddress, to, payload, ETHERTYPE_IPV6);

  const send = (frames: readonly Frame[]): Promise<void> => sendFrames(guest, frames);

  const arrives = async (make: Make, at: Place, waitMs: number): Promise<boolean> => {
    sent += 1;
    const text = `frame ${sent}.`;
    await send(make(text));
    const seen = async () => ((await at.received()).some((line) => line.endsWith(text)) ? true : undefined);
    return waitFor(seen, { timeoutMs: waitMs, intervalMs: 20, what: text }).catch(() => false);
  };

  before(async () => {
    // Another file's connections may be between the same addresses and ports.
    await run("conntrack", ["-F"]);
    host = await openHost();
    outside = await openNeighbour("outside", "egress0", [HOST, OUTSIDE]);
    await outside.ip("route", "add", "default", "via", HOST);
    await ip("address", "add", `${HOST6}/64`, "dev", "egress0", "nodad");
    await outside.ip("address", "add", `${OUTSIDE6}/64`, "dev", "uplink", "nodad");
    await outside.ip("route", "add", subnet6.cidr, "via", HOST6);
    await outside.ip("address", "add", `${METADATA}/32`, "dev", "lo");
    await ip("route", "add", "default", "via", OUTSIDE);
    if (!(await exists("/proc/sys/net/ipv6/conf/egress0/force_forwarding"))) {
      await run("sh", ["-c", "echo 1 >/proc/sys/net/ipv6/conf/all/forwarding"]);
    }
    await fabric.open();
    for (const network of [alice, bob]) await fabric.attach({ network, egressInterface: "egress0" });
    guest = await openGuest("alice", alice);
    neighbour = await openGuest("bob", bob);
    for (const place of [outside, host, neighbour]) {
      const group = place === host ? { group: { address: GROUP, interface: alice.gateway } } : {};
      await place.listen("udp", { address: "0.0.0.0", port: PORT, ...group });
      await place.listen("udp", { address: "::", port: PORT6 });
    }
    // As if everybody wanted source routes: the kernel itself has them off.
    for (const place of [host, outside, neighbour]) {
      await place.run(
        "sh",
        "-c",
        "for file in /proc/sys/net/ipv4/conf/*/accept_source_route; do echo 1 >$file; done",
      );
    }
    // Somebody publishes a port of a VM at the host's outer address, as Docker does for containers.
    await run("nft", ["-f", "-"], {
      input: `table ip published { chain c { type nat hook prerouting priority dstnat; ip daddr ${HOST} udp dport 9999 dnat to ${bob.address}:${PORT}; }; }\n`,
    });
  });

  after(async () => {
    await run("nft", ["delete", "table", "ip", "published"]);
    await fabric.close();
    for (const place of [guest, neighbour, outside, host]) await place.close();
  });

  test("control: what a program would send arrives, in fragments, too", async () => {
    assert.equal(await arrives((text) => [plain(datagram(OUTSIDE, text))], outside, ARRIVAL_MS), true);
    const pieces: Make = (text) => fragments(datagram(OUTSIDE, "x".repeat(64) + text)).map(plain);
    assert.equal(await arrives(pieces, outside, ARRIVAL_MS), true);
    const whole: Make = (text) => [plain6(ipv6(alice6.address, OUTSIDE6, datagram6(OUTSIDE6, text)))];
    assert.equal(await arrives(whole, outside, ARRIVAL_MS), true);
    const pieces6: Make = (text) =>
      fragments6(alice6.address, OUTSIDE6, datagram6(OUTSIDE6, "x".repeat(64) + text)).map((one) =>
        plain6(one),
      );
    assert.equal(await arrives(pieces6, outside, ARRIVAL_MS), true);
  });

  /** Whether the guest can make the host send smaller packets to the outside: it says that one was too large. */
  const shrinksPackets = async (waitMs: number): Promise<boolean> => {
    await expectingAnswers(() => outside.udp({ address: HOST, port: PORT }));
    const listed = (
      await run("conntrack", ["-L", "-p", "udp", "--orig-src", OUTSIDE, "--orig-port-dst", String(PORT)])
    ).stdout;
    const port = Number(/sport=(\d+)/.exec(listed)?.[1] ?? assert.fail(listed));
    const answer = ipv4(HOST, OUTSIDE, udp(HOST, OUTSIDE, PORT, port, "x".repeat(1400)));
    await send([plain(tooLarge(alice.address, HOST, answer, 600))]);
    const shrunk = async () =>
      (await host.ip("route", "get", OUTSIDE)).includes("mtu 600") ? true : undefined;
    return waitFor(shrunk, { timeoutMs: waitMs, intervalMs: 20, what: "smaller packets" }).catch(() => false);
  };

  /** Whether the host hears that the guest knows a better router, of a connection between both. */
  const redirects = async (waitMs: number): Promise<boolean> => {
    const heard = async (): Promise<number> => {
      const [names = "", values = ""] = (await host.run("grep", "^Icmp:", "/proc/net/snmp")).split("\n");
      return Number(values.split(" ")[names.split(" ").indexOf("InRedirects")]);
    };
    const before = await heard();
    await host.udp({ address: alice.address, port: PORT });
    const own = ipv4(alice.gateway, alice.address, udp(alice.gateway, alice.address, 4000, PORT, "own"));
    await send([plain(redirect(alice.address, alice.gateway, own, bob.address))]);
    const redirected = async () => ((await heard()) > before ? true : undefined);
    return waitFor(redirected, { timeoutMs: waitMs, intervalMs: 50, what: "a redirect" }).catch(() => false);
  };

  /** To an address by way of another, which is the one that the header names. */
  const routed = (kind: "loose" | "strict", via: string, to: string, text: string): Buffer =>
    ipv4(alice.address, via, udp(alice.address, to, 4000, PORT, text), { options: sourceRoute(kind, to) });

  const ways: Record<string, { make: Make; at: () => Place }> = {
    "another VM's address, in fragments": {
      make: (text) => fragments(datagram(OUTSIDE, "x".repeat(64) + text, bob.address)).map(plain),
      at: () => outside,
    },
    "the host, in fragments": {
      make: (text) => fragments(datagram(alice.gateway, "x".repeat(64) + text)).map(plain),
      at: () => host,
    },
    "another VM, in fragments": {
      make: (text) => fragments(datagram(bob.address, "x".repeat(64) + text)).map(plain),
      at: () => neighbour,
    },
    "somebody's address behind a priority tag (VLAN 0)": {
      make: (text) => [vlan(0, plain(datagram(OUTSIDE, text, "192.0.2.77")))],
      at: () => outside,
    },
    "the host behind a priority tag (VLAN 0)": {
      make: (text) => [vlan(0, plain(datagram(alice.gateway, text)))],
      at: () => host,
    },
    "the host by broadcast to all": {
      make: (text) => [ethernet(alice.macAddress, BROADCAST_MAC, datagram("255.255.255.255", text))],
      at: () => host,
    },
    "the host by broadcast to its network": {
      make: (text) => [ethernet(alice.macAddress, BROADCAST_MAC, datagram("172.16.120.3", text))],
      at: () => host,
    },
    "the host by multicast to all hosts": {
      make: (text) => [ethernet(alice.macAddress, "01:00:5e:00:00:01", datagram("224.0.0.1", text))],
      at: () => host,
    },
    "the host by multicast to a group that it is in": {
      make: (text) => [ethernet(alice.macAddress, "01:00:5e:01:02:03", datagram(GROUP, text))],
      at: () => host,
    },
    "the host by multicast in a frame to its gateway": {
      make: (text) => [plain(datagram(GROUP, text))],
      at: () => host,
    },
    "the host's loopback, to which services are led": {
      make: (text) => [plain(datagram("127.0.0.1", text))],
      at: () => host,
    },
    "a metadata address by a loose source route": {
      make: (text) => [plain(routed("loose", HOST, METADATA, text))],
      at: () => outside,
    },
    "another VM by a strict source route": {
      make: (text) => [plain(routed("strict", alice.gateway, bob.address, text))],
      at: () => neighbour,
    },
    "the host over IPv6, in fragments": {
      make: (text) =>
        fragments6(alice6.address, alice6.gateway, datagram6(alice6.gateway, "x".repeat(64) + text)).map(
          (one) => plain6(one),
        ),
      at: () => host,
    },
    "another VM over IPv6, in fragments": {
      make: (text) =>
        fragments6(alice6.address, bob6.address, datagram6(bob6.address, "x".repeat(64) + text)).map((one) =>
          plain6(one),
        ),
      at: () => neighbour,
    },
    "the host by multicast to all IPv6 nodes": {
      make: (text) => {
        const packet = ipv6(alice6.linkLocal, "ff02::1", datagram6("ff02::1", text, alice6.linkLocal));
        return [plain6(packet, "33:33:00:00:00:01")];
      },
      at: () => host,
    },
    ...Object.fromEntries(
      (["hop-by-hop", "destination", "fragment", "routing"] as const).flatMap((extension) => [
        [
          `the host behind a ${extension} header`,
          {
            make: (text: string) => [
              plain6(ipv6(alice6.address, alice6.gateway, datagram6(alice6.gateway, text), [extension])),
            ],
            at: () => host,
          },
        ],
        [
          `another VM behind a ${extension} header`,
          {
            make: (text: string) => [
              plain6(ipv6(alice6.address, bob6.address, datagram6(bob6.address, text), [extension])),
            ],
            at: () => neighbour,
          },
        ],
        [
          `another VM's address behind a ${extension} header`,
          {
            make: (text: string) => [
              plain6(ipv6(bob6.address, OUTSIDE6, datagram6(OUTSIDE6, text, bob6.address), [extension])),
            ],
            at: () => outside,
          },
        ],
      ]),
    ),
    "the host's address at another VM": {
      make: (text) => [plain(datagram(bob.gateway, text))],
      at: () => host,
    },
    "another VM that somebody published at the host's outer address": {
      make: (text) => {
        const packet = ipv4(alice.address, HOST, udp(alice.address, HOST, 4000, 9999, text));
        return [plain(packet)];
      },
      at: () => neighbour,
    },
    "the host from the host's own address": {
      make: (text) => [plain(datagram(alice.gateway, text, "172.16.120.1"))],
      at: () => host,
    },
  };
  /** The kernel itself lets nobody do that, with our rules or without. */
  const impossible = new Set(["the host from the host's own address"]);

  describe("do not reach", () => {
    test("anybody whom the table of ways names", async () => {
      const texts = new Map<string, string>();
      for (const [name, { make }] of Object.entries(ways)) {
        texts.set(name, `forbidden ${texts.size}.`);
        await send(make(texts.get(name) ?? ""));
      }
      await sleep(NO_ARRIVAL_MS);
      const heard = (await Promise.all([host, outside, neighbour].map((place) => place.received()))).flat();
      const arrived = [...texts].filter(([, text]) => heard.some((line) => line.endsWith(text)));
      assert.deepEqual(
        arrived.map(([name]) => name),
        [],
      );
    });

    test("the host's packets to others, by an ICMP error", async () =>
      assert.equal(await shrinksPackets(NO_ARRIVAL_MS), false));

    test("the host's routes, by an ICMP redirect", async () =>
      assert.equal(await redirects(NO_ARRIVAL_MS), false));

    test("anybody in a VLAN, by another protocol, or too short", async () => {
      for (const make of [
        (text: string) => [vlan(5, plain(datagram(OUTSIDE, text)))],
        (text: string) => [vlan(5, vlan(6, plain(datagram(OUTSIDE, text))))],
        (text: string) => [ethernet(alice.macAddress, GATEWAY_MAC, datagram(OUTSIDE, text), 0x88cc)],
        (text: string) => [plain(datagram(OUTSIDE, text)).subarray(0, 30)],
      ]) {
        assert.equal(await arrives(make, outside, NO_ARRIVAL_MS), false);
      }
      assert.equal(await expectingAnswers(() => guest.ping(alice.gateway)), true, "and the TAP still works");
    });
  });

  describe("control: with all of our chains open they do", () => {
    before(openOurChains);

    for (const [name, { make, at }] of Object.entries(ways).filter(([way]) => !impossible.has(way))) {
      test(name, async () => assert.equal(await arrives(make, at(), ARRIVAL_MS), true));
    }

    test("the host's routes, by an ICMP redirect", async () =>
      assert.equal(await redirects(ARRIVAL_MS), true));

    test("the host's packets to others, by an ICMP error", async () =>
      assert.equal(await shrinksPackets(ARRIVAL_MS), true));
  });
});
