/**
 * What a hostile guest sends that no program of its own would: frames made by hand, at a real TAP. Each is tried again
 * with our chains open, when it has to arrive, or the test would prove nothing.
 */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { run } from "../../../src/host/run.ts";
import { waitFor } from "../../../src/host/wait.ts";
import { createFabric } from "../../../src/network/fabric.ts";
import { parseVmSubnet, slotNetwork } from "../../../src/network/slots.ts";
import { GATEWAY_MAC } from "../../../src/network/taps.ts";
import { ethernet, type Frame, fragments, ipv4, tooLarge, udp, vlan } from "../../helpers/frames.ts";
import { needsNamespace } from "../../helpers/namespace.ts";
import {
  GUEST_DEVICE,
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
const [alice, bob] = [slotNetwork(subnet, 0), slotNetwork(subnet, 1)];
const ARRIVAL_MS = 3_000;
const NO_ARRIVAL_MS = 300;

/** Sends frames as they are. */
const SEND = `
  use Socket; use constant { AF_PACKET => 17, SOCK_RAW => 3 };
  socket(my $socket, AF_PACKET, SOCK_RAW, 0) or die $!;
  my $index = $ARGV[0];
  my $to = pack("SnlSCCa8", AF_PACKET, 0, $index, 0, 0, 6, "");
  send($socket, pack("H*", $_), 0, $to) or die $! for @ARGV[1 .. $#ARGV];
`;

failOnLeaks();

describe("frames made by hand", { skip: needsNamespace() }, () => {
  const fabric = createFabric({ subnets: [subnet] });
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

  const send = async (frames: readonly Frame[]): Promise<void> => {
    const [{ ifindex }] = JSON.parse(await guest.ip("-j", "link", "show", "dev", GUEST_DEVICE));
    const words = frames.map((frame) => frame.toString("hex"));
    await guest.run("perl", "-e", SEND, String(ifindex), ...words);
  };

  const arrives = async (make: Make, at: Place, waitMs: number): Promise<boolean> => {
    sent += 1;
    const text = `frame ${sent}.`;
    await send(make(text));
    const seen = async () => ((await at.received()).some((line) => line.endsWith(text)) ? true : undefined);
    return waitFor(seen, { timeoutMs: waitMs, intervalMs: 20, what: text }).catch(() => false);
  };

  before(async () => {
    host = await openHost();
    outside = await openNeighbour("outside", "egress0", [HOST, OUTSIDE]);
    await outside.ip("route", "add", "default", "via", HOST);
    await fabric.open();
    for (const network of [alice, bob]) await fabric.attach({ network, egressInterface: "egress0" });
    guest = await openGuest("alice", alice);
    neighbour = await openGuest("bob", bob);
    for (const place of [outside, host, neighbour])
      await place.listen("udp", { address: "0.0.0.0", port: PORT });
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
  });

  /** Whether the guest can make the host send smaller packets to the outside: it says that one was too large. */
  const shrinksPackets = async (): Promise<boolean> => {
    await outside.udp({ address: HOST, port: PORT });
    const listed = (
      await run("conntrack", ["-L", "-p", "udp", "--orig-src", OUTSIDE, "--orig-port-dst", String(PORT)])
    ).stdout;
    const port = Number(/sport=(\d+)/.exec(listed)?.[1] ?? assert.fail(listed));
    const answer = ipv4(HOST, OUTSIDE, udp(HOST, OUTSIDE, PORT, port, "x".repeat(1400)));
    await send([plain(tooLarge(alice.address, HOST, answer, 600))]);
    const shrunk = async () =>
      (await host.ip("route", "get", OUTSIDE)).includes("mtu 600") ? true : undefined;
    return waitFor(shrunk, { timeoutMs: NO_ARRIVAL_MS, intervalMs: 20, what: "smaller packets" }).catch(
      () => false,
    );
  };

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
    for (const [name, { make, at }] of Object.entries(ways)) {
      test(name, async () => assert.equal(await arrives(make, at(), NO_ARRIVAL_MS), false));
    }

    test("the host's packets to others, by an ICMP error", async () =>
      assert.equal(await shrinksPackets(), false));

    test("anybody in a VLAN, by another protocol, or too short", async () => {
      for (const make of [
        (text: string) => [vlan(5, plain(datagram(OUTSIDE, text)))],
        (text: string) => [vlan(5, vlan(6, plain(datagram(OUTSIDE, text))))],
        (text: string) => [ethernet(alice.macAddress, GATEWAY_MAC, datagram(OUTSIDE, text), 0x88cc)],
        (text: string) => [plain(datagram(OUTSIDE, text)).subarray(0, 30)],
      ]) {
        assert.equal(await arrives(make, outside, NO_ARRIVAL_MS), false);
      }
      assert.equal(await guest.ping(alice.gateway), true, "and the TAP still works");
    });
  });

  describe("control: with all of our chains open they do", () => {
    before(openOurChains);

    for (const [name, { make, at }] of Object.entries(ways).filter(([way]) => !impossible.has(way))) {
      test(name, async () => assert.equal(await arrives(make, at(), ARRIVAL_MS), true));
    }

    test("the host's packets to others, by an ICMP error", async () =>
      assert.equal(await shrinksPackets(), true));
  });
});
