/**
 * Every way that is open to a VM and every way that is shut, each probed from stand-in guests at real TAPs. The
 * shut ones are probed twice: without our rules, when all must be open, or the probe would prove nothing.
 */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { run } from "../../../src/host/run.ts";
import { waitFor } from "../../../src/host/wait.ts";
import { createFabric, type FabricOptions } from "../../../src/network/fabric.ts";
import { parseVmSubnet, slotNetwork } from "../../../src/network/slots.ts";
import { needsNamespace } from "../../helpers/namespace.ts";
import {
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

const HOST = "203.0.113.1";
const OUTSIDE = "203.0.113.2";
const OTHER_HOST = "198.51.100.1";
const OTHER = "198.51.100.2";
const METADATA = "169.254.169.254";
const WEB = 8080;
const SSH = 2222;

const subnet = parseVmSubnet("172.16.120.");
const [alice, bob, closed] = [slotNetwork(subnet, 0), slotNetwork(subnet, 1), slotNetwork(subnet, 2)];
const options: FabricOptions = {
  subnets: [subnet],
  dnsServers: [HOST, METADATA],
  hostServices: [{ address: HOST, protocol: "tcp", port: 5000 }],
};
const fabric = createFabric(options);

/** Of what has another source no answer comes back: what counts is whether it arrives. */
const ONE_WAY = { timeoutMs: NO_ANSWER_MS };

/** The kernel's answers and errors are not the listener's. */
const reaches = async (answer: Promise<string | undefined>): Promise<boolean> => (await answer) !== undefined;

failOnLeaks();

describe("isolation", { skip: needsNamespace() }, () => {
  let host: Place;
  let outside: Place;
  let other: Place;
  let guest: Place;
  let neighbour: Place;
  let shut: Place;

  before(async () => {
    host = await openHost();
    outside = await openNeighbour("outside", "egress0", [HOST, OUTSIDE]);
    other = await openNeighbour("other", "other0", [OTHER_HOST, OTHER]);
    for (const place of [outside, other]) {
      // Without translation they must be able to answer, or the controls would fail for that reason.
      await place.ip("route", "add", "default", "via", place === outside ? HOST : OTHER_HOST);
    }
    await outside.ip("address", "add", `${METADATA}/32`, "dev", "lo");
    await ip("route", "add", "default", "via", OUTSIDE);
    await fabric.open();
    for (const network of [alice, bob]) await fabric.attach({ network, egressInterface: "egress0" });
    await fabric.attach({ network: closed, egressInterface: undefined });
    guest = await openGuest("alice", alice);
    neighbour = await openGuest("bob", bob);
    shut = await openGuest("closed", closed);
    for (const protocol of ["tcp", "udp"] as const) {
      await outside.listen(protocol, { address: "0.0.0.0", port: WEB });
      await outside.listen(protocol, { address: METADATA, port: 53 });
      await other.listen(protocol, { address: OTHER, port: WEB });
      await neighbour.listen(protocol, { address: "0.0.0.0", port: WEB });
      await guest.listen(protocol, { address: "0.0.0.0", port: SSH });
      await host.listen(protocol, { address: "0.0.0.0", port: WEB });
      await host.listen(protocol, { address: HOST, port: 53 });
    }
    await host.listen("tcp", { address: HOST, port: 5000 });
  });

  after(async () => {
    await fabric.close();
    for (const place of [guest, neighbour, shut, outside, other, host]) await place.close();
    assert.deepEqual(JSON.parse(await ip("-j", "link", "show", "type", "tun")), []);
  });

  describe("open", () => {
    test("the outside, which sees the host's address", () =>
      expectingAnswers(async () => {
        assert.equal(await guest.tcp({ address: OUTSIDE, port: WEB }), HOST);
        assert.equal(await guest.udp({ address: OUTSIDE, port: WEB }), HOST);
        assert.equal(await guest.ping(OUTSIDE), true);
      }));

    test("the gateway, by ICMP echo and ARP", () =>
      expectingAnswers(async () => {
        assert.equal(await guest.ping(alice.gateway), true);
        assert.equal(await shut.ping(closed.gateway), true);
        assert.equal(await guest.arping(alice.gateway, GUEST_DEVICE, alice.address), true);
      }));

    test("resolvers on the host and on a link-local address, and services of the host that are named", () =>
      expectingAnswers(async () => {
        assert.equal(await guest.udp({ address: HOST, port: 53 }), alice.address);
        assert.equal(await guest.tcp({ address: HOST, port: 53 }), alice.address);
        assert.equal(await guest.udp({ address: METADATA, port: 53 }), HOST);
        assert.equal(await guest.tcp({ address: METADATA, port: 53 }), HOST);
        assert.equal(await guest.tcp({ address: HOST, port: 5000 }), alice.address);
      }));

    test("the host's own way into a VM", () =>
      expectingAnswers(async () => {
        assert.equal(await host.tcp({ address: alice.address, port: SSH }), alice.gateway);
        assert.equal(await host.ping(alice.address), true);
      }));

    test("without the global forwarding switch, and with that of the TAPs and the egress interface", async () => {
      const forwarding = async (name: string): Promise<string> =>
        (await run("cat", [`/proc/sys/net/ipv4/conf/${name}/forwarding`])).stdout.trim();
      assert.equal(await forwarding("all"), "0");
      assert.equal(await forwarding("other0"), "0");
      assert.equal(await forwarding("egress0"), "1");
      assert.equal(await forwarding(alice.tapName), "1");
    });
  });

  /** Ways that must be shut; each says whether it was open. */
  const ways: Record<string, () => Promise<boolean>> = {
    "another VM by TCP": () => reaches(guest.tcp({ address: bob.address, port: WEB })),
    "another VM by UDP": () => reaches(guest.udp({ address: bob.address, port: WEB })),
    "another VM by ICMP": () => guest.ping(bob.address),
    "the host by TCP at the gateway address": () => reaches(guest.tcp({ address: alice.gateway, port: WEB })),
    "the host by TCP at its outer address": () => reaches(guest.tcp({ address: HOST, port: WEB })),
    "the host by UDP": () => reaches(guest.udp({ address: HOST, port: WEB })),
    "the host by ICMP at an address that is not the gateway": () => guest.ping(HOST),
    "another VM's gateway": () => guest.ping(bob.gateway),
    "the metadata service by TCP": () => reaches(guest.tcp({ address: METADATA, port: WEB })),
    "the metadata service by UDP": () => reaches(guest.udp({ address: METADATA, port: WEB })),
    "the metadata service by ICMP": () => guest.ping(METADATA),
    "an interface that is not the egress": () => reaches(guest.tcp({ address: OTHER, port: WEB })),
    "the outside by TCP from a VM without egress": () => reaches(shut.tcp({ address: OUTSIDE, port: WEB })),
    "the outside by ICMP from a VM without egress": () => shut.ping(OUTSIDE),
    "the VM by TCP from the outside": () => reaches(outside.tcp({ address: alice.address, port: SSH })),
    "the VM by UDP from the outside": () => reaches(outside.udp({ address: alice.address, port: SSH })),
    "the VM by ICMP from the outside": () => outside.ping(alice.address),
    "the host by IPv6": () => guest.ping("fd00:1::1"),
    "the outside by IPv6": () => guest.ping("fd00:2::2"),
    "the VM by IPv6 from the host": () => host.ping("fd00:1::2"),
    "the VM from another interface": () => reaches(other.tcp({ address: alice.address, port: SSH })),
  };
  /** The same of what is not the guest's own. */
  const forgeries: Record<string, () => Promise<boolean>> = {
    "a spoofed source address": async () => {
      const before = (await outside.received()).length;
      await guest.ip("address", "add", "192.0.2.77/32", "dev", GUEST_DEVICE);
      await guest.udp(
        { address: OUTSIDE, port: WEB },
        { ...ONE_WAY, from: "192.0.2.77", payload: "spoofed" },
      );
      await guest.ip("address", "delete", "192.0.2.77/32", "dev", GUEST_DEVICE);
      return heardSince(outside, before, "spoofed");
    },
    "another VM's source address": async () => {
      const before = (await outside.received()).length;
      await guest.ip("address", "add", `${bob.address}/32`, "dev", GUEST_DEVICE);
      await guest.udp({ address: OUTSIDE, port: WEB }, { ...ONE_WAY, from: bob.address, payload: "as bob" });
      await guest.ip("address", "delete", `${bob.address}/32`, "dev", GUEST_DEVICE);
      return heardSince(outside, before, "as bob");
    },
    "a spoofed MAC": async () => {
      const before = (await outside.received()).length;
      await guest.ip("link", "set", GUEST_DEVICE, "address", "02:00:00:00:00:77");
      await guest.ip(
        "neighbour",
        "replace",
        alice.gateway,
        "lladdr",
        "02:fc:00:00:00:01",
        "dev",
        GUEST_DEVICE,
      );
      await guest.udp({ address: OUTSIDE, port: WEB }, { ...ONE_WAY, payload: "wrong mac" });
      await guest.ip("link", "set", GUEST_DEVICE, "address", alice.macAddress);
      return heardSince(outside, before, "wrong mac");
    },
    "an ARP request with a spoofed address": async () => {
      await guest.ip("address", "add", "172.16.120.77/32", "dev", GUEST_DEVICE);
      const answered = await guest.arping(alice.gateway, GUEST_DEVICE, "172.16.120.77");
      await guest.ip("address", "delete", "172.16.120.77/32", "dev", GUEST_DEVICE);
      return answered;
    },
    "an ARP request with a spoofed MAC": async () => {
      await guest.ip("link", "set", GUEST_DEVICE, "address", "02:00:00:00:00:77");
      const answered = await guest.arping(alice.gateway, GUEST_DEVICE, alice.address);
      await guest.ip("link", "set", GUEST_DEVICE, "address", alice.macAddress);
      return answered;
    },
    "an ARP request for an address that is not the gateway": () =>
      guest.arping(HOST, GUEST_DEVICE, alice.address),
  };

  describe("shut", () => {
    before(async () => {
      // As if somebody had given the host's IPv6 everywhere: even then none may pass.
      for (const [name, value] of [
        [`conf/${alice.tapName}/disable_ipv6`, "0"],
        ["conf/all/forwarding", "1"],
      ]) {
        await run("sh", ["-c", 'echo "$2" >"/proc/sys/net/ipv6/$1"', "sh", name ?? "", value ?? ""]);
      }
      await ip("address", "add", "fd00:1::1/64", "dev", alice.tapName, "nodad");
      await ip("address", "add", "fd00:2::1/64", "dev", "egress0", "nodad");
      await guest.ip("address", "add", "fd00:1::2/64", "dev", GUEST_DEVICE, "nodad");
      await guest.ip("route", "add", "default", "via", "fd00:1::1");
      await outside.ip("address", "add", "fd00:2::2/64", "dev", "uplink", "nodad");
      await outside.ip("route", "add", "default", "via", "fd00:2::1");
      // For the control only: without this an interface takes in answers, but forwards none.
      await run("sh", ["-c", "echo 1 >/proc/sys/net/ipv4/conf/other0/forwarding"]);
    });

    describe("all at once", { concurrency: true }, () => {
      for (const [name, isOpen] of Object.entries(ways))
        test(name, async () => assert.equal(await isOpen(), false));
    });
    for (const [name, isOpen] of Object.entries(forgeries))
      test(name, async () => assert.equal(await isOpen(), false));
  });

  describe("control: the same ways with all of our chains open", () => {
    before(openOurChains);

    for (const [name, isOpen] of Object.entries({ ...ways, ...forgeries }))
      test(name, async () => assert.equal(await expectingAnswers(isOpen), true));
  });

  test("rules that somebody removes come back by themselves, and until then all is shut", async () => {
    const hasOurTables = async (): Promise<boolean> => {
      const tables = (await run("nft", ["list", "tables"])).stdout.split("\n");
      return ["table inet fleetingd", "table arp fleetingd"].every((table) => tables.includes(table));
    };
    for (const removal of ["flush ruleset", "delete table inet fleetingd", "delete table arp fleetingd"]) {
      await run("nft", [removal]);
      await waitFor(async () => ((await hasOurTables()) ? true : undefined), {
        timeoutMs: 60_000,
        intervalMs: 50,
        what: "our tables to come back",
      });
      await expectingAnswers(async () => {
        assert.equal(await guest.tcp({ address: OUTSIDE, port: WEB }), HOST, removal);
        assert.equal(await neighbour.tcp({ address: OUTSIDE, port: WEB }), HOST, removal);
        assert.equal(await host.tcp({ address: alice.address, port: SSH }), alice.gateway, removal);
      });
      assert.equal(await reaches(guest.tcp({ address: bob.address, port: WEB })), false, removal);
    }
  });

  test("a TAP whose elements are gone is shut, with the rules in place", async () => {
    const stranger = slotNetwork(subnet, 3);
    await fabric.attach({ network: stranger, egressInterface: "egress0" });
    const place = await openGuest("stranger", stranger);
    assert.equal(await expectingAnswers(() => place.tcp({ address: OUTSIDE, port: WEB })), HOST, "control");
    await run("nft", ["flush", "set", "inet", "fleetingd", "guests"]);
    assert.equal(await reaches(place.tcp({ address: OUTSIDE, port: WEB })), false);
    assert.equal(await place.ping(stranger.gateway), false);
    await place.close();
    await fabric.detach(stranger);
  });

  describe("without our rules, while no daemon runs", () => {
    before(async () => {
      // What a daemon leaves that was killed: its rules, the guard, and VMs.
      await fabric.release();
      await run("nft", ["flush ruleset"]);
    });

    describe("all at once", { concurrency: true }, () => {
      for (const [name, isOpen] of Object.entries(ways))
        test(name, async () => assert.equal(await isOpen(), false));
    });
    for (const [name, isOpen] of Object.entries(forgeries).filter(([name]) => !name.includes("ARP")))
      test(name, async () => assert.equal(await isOpen(), false));

    test("even the ways that are open otherwise", async () => {
      assert.equal(await reaches(guest.tcp({ address: OUTSIDE, port: WEB })), false);
      assert.equal(await guest.ping(alice.gateway), false);
      assert.equal(await host.ping(alice.address), false);
    });

    test("the next daemon finds the guard, and opens them", async () => {
      const successor = createFabric(options);
      await successor.open();
      for (const network of [alice, bob]) await successor.attach({ network, egressInterface: "egress0" });
      assert.equal(await expectingAnswers(() => guest.tcp({ address: OUTSIDE, port: WEB })), HOST);
      assert.equal(await reaches(guest.tcp({ address: bob.address, port: WEB })), false);
      await successor.close();
    });
  });
});
