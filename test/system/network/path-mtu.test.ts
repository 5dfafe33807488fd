/** A VM's connections learn how large their packets may be: ICMP errors get through, from the outside and from the VM. */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { exists } from "../../../src/host/files.ts";
import { run } from "../../../src/host/run.ts";
import { waitFor } from "../../../src/host/wait.ts";
import { createFabric, type Fabric } from "../../../src/network/fabric.ts";
import { parseVmSubnet, parseVmSubnet6, slotNetwork } from "../../../src/network/slots.ts";
import { GATEWAY_MAC } from "../../../src/network/taps.ts";
import { ethernet, ipv4, sendFrames, tooLarge, udp } from "../../helpers/frames.ts";
import { needsNamespace } from "../../helpers/namespace.ts";
import {
  expectingAnswers,
  ip,
  openGuest,
  openHost,
  openNamespace,
  openNeighbour,
  type Place,
  startServer,
} from "../../helpers/netns.ts";
import { failOnLeaks } from "../../helpers/suite.ts";

const [HOST, OUTSIDE, FAR] = ["203.0.113.1", "203.0.113.2", "198.51.100.2"] as const;
const [HOST6, OUTSIDE6, FAR6] = ["2001:db8:f::1", "2001:db8:f::2", "2001:db8:fa::2"] as const;
const PORT = 8080;
const FAR_MTU = 1300;
const SMALL_MTU = 600;
const TALK_PORT = 4001;
/** Says hello and stays: `address port own-port`. */
const TALK = `
  use Socket;
  socket(my $socket, AF_INET, SOCK_DGRAM, 0) or die $!;
  bind($socket, pack_sockaddr_in($ARGV[2], INADDR_ANY)) or die $!;
  send($socket, "hello", 0, pack_sockaddr_in($ARGV[1], inet_aton($ARGV[0]))) or die $!;
  sleep;
`;

const subnet = parseVmSubnet("172.16.120.");
const [local, routed] = [parseVmSubnet6("fd12:3456:789a::/64"), parseVmSubnet6("2001:db8:1::/64")];
const [alice, bob] = [slotNetwork(subnet, 0, local), slotNetwork(subnet, 1, routed)];

failOnLeaks();

describe("path MTU discovery", { skip: needsNamespace() }, () => {
  let fabric: Fabric;
  let host: Place;
  let outside: Place;
  let far: Place;
  let guest: Place;
  let other: Place;

  const untilMtu = (from: Place, to: string, mtu: number, complain?: () => Promise<void>): Promise<true> =>
    waitFor(
      async () => {
        await complain?.();
        return (await from.ip("route", "get", to)).includes(`mtu ${mtu}`) ? (true as const) : undefined;
      },
      { timeoutMs: 60_000, intervalMs: 50, what: `packets of ${mtu} bytes from ${from.name} to ${to}` },
    );

  before(async () => {
    // Another file's connections may be between the same addresses and ports.
    await run("conntrack", ["-F"]);
    host = await openHost();
    outside = await openNeighbour("outside", "egress0", [HOST, OUTSIDE]);
    far = await openNamespace("far");
    await outside.ip("link", "add", "far0", "type", "veth", "peer", "name", "uplink", "netns", "far");
    for (const [place, device, four, six] of [
      [outside, "far0", "198.51.100.1/24", "2001:db8:fa::1/64"],
      [far, "uplink", `${FAR}/24`, `${FAR6}/64`],
    ] as const) {
      await place.ip("link", "set", device, "mtu", String(FAR_MTU), "up");
      await place.ip("address", "add", four, "dev", device);
      await place.ip("address", "add", six, "dev", device, "nodad");
    }
    await far.ip("route", "add", "default", "via", "198.51.100.1");
    await far.ip("route", "add", "default", "via", "2001:db8:fa::1");
    await ip("address", "add", `${HOST6}/64`, "dev", "egress0", "nodad");
    await outside.ip("address", "add", `${OUTSIDE6}/64`, "dev", "uplink", "nodad");
    await outside.ip("route", "add", routed.cidr, "via", HOST6);
    await ip("route", "add", "default", "via", OUTSIDE);
    await ip("-6", "route", "add", "default", "via", OUTSIDE6);
    const forward = "echo 1 >/proc/sys/net/ipv6/conf/all/forwarding";
    await outside.run("sh", "-c", `${forward}; echo 1 >/proc/sys/net/ipv4/ip_forward`);
    if (!(await exists("/proc/sys/net/ipv6/conf/egress0/force_forwarding")))
      await host.run("sh", "-c", forward);
    await outside.listen("udp", { address: "0.0.0.0", port: PORT });
    fabric = createFabric({ subnets: [subnet], subnets6: [local, routed] });
    await fabric.open();
    for (const network of [alice, bob]) await fabric.attach({ network, egressInterface: "egress0" });
    guest = await openGuest("alice", alice);
    other = await openGuest("bob", bob);
    await guest.listen("udp", { address: "0.0.0.0", port: PORT });
  });

  after(async () => {
    await fabric.close();
    for (const place of [guest, other, far, outside, host]) await place.close();
  });

  test("a VM hears that its packets are too large for the way", async () => {
    for (const [place, to] of [
      [guest, FAR],
      [guest, FAR6],
      [other, FAR6],
    ] as const) {
      const large = ["-M", "do", "-s", "1400", "-c", "1", "-W", "1", to];
      await place.run("ping", ...large).catch(() => undefined);
      await untilMtu(place, to, FAR_MTU);
      await place.run("ping", "-c", "1", "-W", "5", "-s", "1200", to);
    }
  });

  /** What the guest would say if something behind it took only small packets: of a datagram to it. */
  const complain = async (from: string, port: number, toPort: number): Promise<void> => {
    const datagram = ipv4(from, alice.address, udp(from, alice.address, port, toPort, "x".repeat(1400)));
    const error = tooLarge(alice.address, from, datagram, SMALL_MTU);
    await sendFrames(guest, [ethernet(alice.macAddress, GATEWAY_MAC, error)]);
  };
  const portOf = async (from: string, to: string): Promise<number> => {
    const query = ["-L", "-p", "udp", "--orig-src", from, "--orig-dst", to];
    const listed = (await run("conntrack", query)).stdout;
    return Number(/sport=(\d+)/.exec(listed)?.[1] ?? assert.fail(listed));
  };

  test("the outside hears it of its answers to a VM", async () => {
    assert.equal(await expectingAnswers(() => guest.udp({ address: OUTSIDE, port: PORT })), HOST);
    const port = await portOf(alice.address, OUTSIDE);
    // Of each datagram that is too large: nobody promises that one complaint arrives.
    await untilMtu(outside, HOST, SMALL_MTU, () => complain(OUTSIDE, PORT, port));
  });

  test("the host hears it of its own connection to a VM", async () => {
    // Only a socket that is still open is told.
    const talker = await startServer(["perl", "-e", TALK, alice.address, String(PORT), String(TALK_PORT)]);
    await waitFor(
      async () => ((await guest.received()).some((line) => line.endsWith("hello")) ? true : undefined),
      {
        timeoutMs: 60_000,
        intervalMs: 50,
        what: "the VM to hear the host",
      },
    );
    await untilMtu(host, alice.address, SMALL_MTU, () => complain(alice.gateway, TALK_PORT, PORT));
    await talker.end();
  });
});
