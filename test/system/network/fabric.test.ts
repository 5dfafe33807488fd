/** The life of TAPs and rules: made, kept, changed and removed, and nobody else's touched. */
import assert from "node:assert/strict";
import { chmod, mkdtemp, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, afterEach, before, describe, test } from "node:test";
import { findProgram } from "../../../src/host/files.ts";
import { run } from "../../../src/host/run.ts";
import { waitFor } from "../../../src/host/wait.ts";
import { silentLogger } from "../../../src/log.ts";
import { readConnectionTable } from "../../../src/network/conntrack.ts";
import { createConntrackWatch } from "../../../src/network/conntrack-watch.ts";
import { createFabric, type Fabric } from "../../../src/network/fabric.ts";
import { createLeases } from "../../../src/network/leases.ts";
import { DEFAULT_POLICY } from "../../../src/network/policy.ts";
import { parseVmSubnet, type SlotNetwork, slotNetwork } from "../../../src/network/slots.ts";
import { policyGroup } from "../../../src/network/tap-groups.ts";
import { needsNamespace } from "../../helpers/namespace.ts";
import { expectingAnswers, ip, openGuest, openNeighbour, type Place } from "../../helpers/netns.ts";
import { failOnLeaks } from "../../helpers/suite.ts";

const subnet = parseVmSubnet("10.64.0.0/16");
const [first, second, third] = [slotNetwork(subnet, 0), slotNetwork(subnet, 1), slotNetwork(subnet, 2)];
const egressInterface = "egress0";
/** Counts of a VM's connections come and go by themselves. */
const isCount = (line: string): boolean => /"fltap\w+" (ct count|limit rate)/.test(line);
const rulesNow = async (): Promise<string> =>
  (await run("nft", ["-a", "list", "ruleset"])).stdout
    .split("\n")
    .filter((line) => !isCount(line))
    .join("\n");
const elementsNow = async (): Promise<string[]> =>
  (await rulesNow()).split("\n").filter((line) => line.includes('"fltap') && !line.includes("fltap*"));

/** What a host may have: Docker's chain as iptables-nft writes it, and rules written by hand, with counters. */
const FOREIGN_RULES = `
table ip filter {
	chain INPUT {
		type filter hook input priority filter; policy accept;
		iifname "lo" counter packets 12 bytes 1000 accept
	}
	chain DOCKER-USER {
		ip saddr 192.0.2.9 counter packets 5 bytes 300 return
	}
	chain FORWARD {
		type filter hook forward priority filter; policy accept;
		jump DOCKER-USER
	}
}
table inet mine {
	set admins {
		type ipv4_addr
		elements = { 192.0.2.1, 192.0.2.2 }
	}
	chain input {
		type filter hook input priority 10; policy accept;
		ip saddr @admins tcp dport 22 counter accept
	}
}
table arp mine {
	chain input {
		type filter hook input priority filter; policy accept;
	}
}
`;

/** A datagram to every port from as many sockets as it takes to fill the table: the limit is the host's, the table this namespace's. */
const FILL_CONNTRACK = `
  use Socket;
  open(my $file, "<", "/proc/sys/net/netfilter/nf_conntrack_max") or die $!;
  my $left = <$file>;
  while ($left > 0) {
    socket(my $socket, AF_INET, SOCK_DGRAM, 0) or die $!;
    for my $port (1 .. 65535) {
      send($socket, "x", 0, pack_sockaddr_in($port, inet_aton($ARGV[0])));
      last if --$left <= 0;
    }
  }
`;

/** As many as there is room for and more, in the words of `conntrack`; the kernel gives none of them up for a new one. */
function answeredConnections(limit: number): string {
  const ports = 65_535;
  return Array.from({ length: limit + 1 }, (_, index) => {
    const [address, port] = [`198.18.${Math.floor(index / ports)}.1`, (index % ports) + 1];
    return `-I -s ${address} -d 203.0.113.9 -p udp --sport ${port} --dport 9 -t 600 -u SEEN_REPLY,ASSURED\n`;
  }).join("");
}

failOnLeaks();

describe("fabric", { skip: needsNamespace() }, () => {
  let fabric: Fabric;
  let outside: Place;
  let folder: string;
  let foreignBefore: string;
  let linksBefore: string;
  const path = process.env["PATH"];

  before(async () => {
    folder = await mkdtemp(join(tmpdir(), "fabric-"));
    outside = await openNeighbour("outside", egressInterface, ["203.0.113.1", "203.0.113.2"]);
    await outside.listen("tcp", { address: "0.0.0.0", port: 8080 });
    await outside.stream("echo", { address: "0.0.0.0", port: 9000 });
    await run("nft", ["-f", "-"], { input: FOREIGN_RULES });
    foreignBefore = await rulesNow();
    linksBefore = await ip("link", "show");
    fabric = createFabric({ subnets: [subnet] });
  });

  afterEach(async () => {
    process.env["PATH"] = path;
    await fabric.sweep(new Set());
    assert.deepEqual(await fabric.listTaps(), []);
    assert.deepEqual(await elementsNow(), []);
  });

  after(async () => {
    await fabric.close();
    assert.equal(await rulesNow(), foreignBefore, "other people's rules, handles and counters are as before");
    assert.equal(await ip("link", "show"), linksBefore);
    for (const table of ["ip filter", "inet mine", "arp mine"]) {
      await run("nft", ["delete", "table", ...table.split(" ")]);
    }
    await outside.close();
    await rm(folder, { recursive: true });
  });

  test("open writes the rules once, and only what is ours", async () => {
    await fabric.open();
    const written = await rulesNow();
    await fabric.open();
    const another = createFabric({ subnets: [subnet] });
    await another.open();
    await another.release();
    assert.equal(await rulesNow(), written);
    const ours = written.split("table inet fleetingd")[0] ?? "";
    assert.equal(ours.trimEnd(), foreignBefore.trimEnd());
  });

  test("attach makes an addressed TAP of ours with a fixed neighbour; detach leaves nothing", async () => {
    const attachment = { network: first, egressInterface, tapOwner: { uid: 4711, gid: 4712 } };
    await fabric.attach(attachment);
    await fabric.attach(attachment);
    const [link] = JSON.parse(await ip("-j", "-d", "link", "show", "dev", first.tapName));
    assert.equal(Number(link.group), policyGroup(DEFAULT_POLICY.name));
    assert.ok(link.flags.includes("UP"));
    assert.deepEqual(
      [link.linkinfo.info_data.type, link.linkinfo.info_data.user, link.linkinfo.info_data.group].map(String),
      ["tap", "4711", "4712"],
    );
    const [addresses] = JSON.parse(await ip("-j", "address", "show", "dev", first.tapName));
    assert.deepEqual(
      addresses.addr_info.map(
        (info: { local: string; prefixlen: number }) => `${info.local}/${info.prefixlen}`,
      ),
      [`${first.gateway}/30`],
    );
    const [neighbour] = JSON.parse(await ip("-j", "neighbour", "show", "dev", first.tapName));
    assert.deepEqual(
      [neighbour.dst, neighbour.lladdr, neighbour.state],
      [first.address, first.macAddress, ["PERMANENT"]],
    );
    assert.equal((await elementsNow()).length, 4);
    await fabric.detach(first);
    await fabric.detach(first);
    assert.deepEqual(await fabric.listTaps(), []);
  });

  test("another VM's coming and going leaves a VM's counters and connections alone", async () => {
    await fabric.attach({ network: first, egressInterface });
    const guest = await openGuest("first", first);
    await expectingAnswers(() => guest.tcp({ address: "203.0.113.2", port: 8080 }));
    const counted = (await fabric.counters()).get(first.tapName);
    assert.ok(counted !== undefined && counted.sentPackets > 0 && counted.sentBytes > 0);
    assert.ok(counted.receivedPackets > 0 && counted.receivedBytes > 0);
    await fabric.attach({ network: second, egressInterface });
    await fabric.attach({ network: first, egressInterface });
    assert.deepEqual((await fabric.counters()).get(second.tapName), {
      sentBytes: 0,
      sentPackets: 0,
      receivedBytes: 0,
      receivedPackets: 0,
    });
    await fabric.detach(second);
    assert.deepEqual([...(await fabric.counters())], [[first.tapName, counted]]);
    await guest.close();
  });

  test("the next VM of an address inherits no connection of the last", async () => {
    const connections = async (): Promise<string> =>
      (await run("conntrack", ["-L", "--orig-src", first.address])).stdout;
    await fabric.attach({ network: first, egressInterface });
    const guest = await openGuest("first", first);
    assert.notEqual(
      await expectingAnswers(() => guest.tcp({ address: "203.0.113.2", port: 8080 })),
      undefined,
    );
    assert.match(await connections(), /dport=8080/);
    await fabric.detach(first);
    await fabric.attach({ network: first, egressInterface });
    assert.equal(await connections(), "");
    await guest.close();
  });

  test("a VM's egress can be changed and taken away", async () => {
    await fabric.attach({ network: first, egressInterface });
    const guest = await openGuest("first", first);
    const open = async (): Promise<boolean> =>
      (await guest.tcp({ address: "203.0.113.2", port: 8080 })) !== undefined;
    assert.equal(await expectingAnswers(open), true);
    await fabric.attach({ network: first, egressInterface: undefined });
    assert.equal(await open(), false);
    await fabric.attach({ network: first, egressInterface: "lo" });
    assert.equal(await open(), false);
    await fabric.attach({ network: first, egressInterface });
    assert.equal(await expectingAnswers(open), true);
    await guest.close();
  });

  test("`auto` follows the default route, and an interface that comes back forwards again", async () => {
    const second0 = await openNeighbour("second", "egress1", ["198.51.100.1", "198.51.100.2"]);
    await second0.listen("tcp", { address: "0.0.0.0", port: 8080 });
    await second0.ip("address", "add", "192.0.2.99/32", "dev", "lo");
    await outside.ip("address", "add", "192.0.2.99/32", "dev", "lo");
    const move = (via: string) => ip("route", "replace", "default", "via", via);
    await fabric.attach({ network: first, egressInterface: "auto" });
    const guest = await openGuest("first", first);
    const seenAs = () => guest.tcp({ address: "192.0.2.99", port: 8080 });
    const untilSeenAs = (address: string | undefined) =>
      waitFor(async () => ((await seenAs()) === address ? true : undefined), {
        timeoutMs: 60_000,
        intervalMs: 50,
        what: `the VM to be seen as ${address}`,
      });
    assert.equal(await seenAs(), undefined, "no default route, no way out");
    await move("203.0.113.2");
    await untilSeenAs("203.0.113.1");
    await move("198.51.100.2");
    await untilSeenAs("198.51.100.1");
    await run("sh", ["-c", "echo 0 >/proc/sys/net/ipv4/conf/egress1/forwarding"]);
    await untilSeenAs("198.51.100.1");
    await ip("route", "delete", "default");
    await untilSeenAs(undefined);
    await guest.close();
    await outside.ip("address", "delete", "192.0.2.99/32", "dev", "lo");
    await second0.close();
  });

  test("forwarding that somebody switches off for the whole host is on again for VMs", async () => {
    await outside.listen("tcp", { address: "0.0.0.0", port: 8081 });
    await fabric.attach({ network: first, egressInterface });
    const guest = await openGuest("first", first);
    const isOpen = async () => (await guest.tcp({ address: "203.0.113.2", port: 8081 })) !== undefined;
    const forward = (value: 0 | 1) => run("sh", ["-c", `echo ${value} >/proc/sys/net/ipv4/ip_forward`]);
    await forward(1);
    await forward(0);
    await waitFor(async () => ((await isOpen()) ? true : undefined), {
      timeoutMs: 60_000,
      intervalMs: 100,
      what: "forwarding to be on again",
    });
    await guest.close();
  });

  test("a way out that is renamed or goes is shut, and open again when it is back", async () => {
    const open = async (): Promise<Place> => {
      const place = await openNeighbour("second", "egress1", ["198.51.100.1", "198.51.100.2"]);
      await place.listen("tcp", { address: "0.0.0.0", port: 8080 });
      return place;
    };
    const before = await open();
    await fabric.attach({ network: first, egressInterface: "egress1" });
    const guest = await openGuest("first", first);
    const isOpen = async () => (await guest.tcp({ address: "198.51.100.2", port: 8080 })) !== undefined;
    assert.equal(await expectingAnswers(isOpen), true);
    await ip("link", "set", "egress1", "down", "name", "renamed0", "up");
    assert.equal(await isOpen(), false);
    await ip("link", "set", "renamed0", "down", "name", "egress1", "up");
    assert.equal(await expectingAnswers(isOpen), true);
    await before.close();
    assert.equal(await isOpen(), false);
    const again = await open();
    await waitFor(async () => ((await isOpen()) ? true : undefined), {
      timeoutMs: 60_000,
      intervalMs: 100,
      what: "the new interface to forward",
    });
    await guest.close();
    await again.close();
  });

  test("a table of connections that is full of unanswered ones is told of, and VMs still get through", async () => {
    const logged: string[] = [];
    const logger = { ...silentLogger, warn: (message: string) => void logged.push(message) };
    const watch = createConntrackWatch(logger);
    await watch();
    assert.deepEqual(logged, []);
    await fabric.attach({ network: first, egressInterface });
    const guest = await openGuest("first", first);
    await run("perl", ["-e", FILL_CONNTRACK, "203.0.113.2"]);
    await watch();
    assert.deepEqual(logged, ["the kernel's table of connections is nearly full: new ones may fail"]);
    assert.notEqual(
      await expectingAnswers(() => guest.tcp({ address: "203.0.113.2", port: 8080 })),
      undefined,
    );
    await guest.close();
    await run("conntrack", ["-F"]);
    await watch();
    assert.equal(logged.length, 1);
  });

  test("a table that is full of answered ones is told of, and what VMs have open goes on", async () => {
    await fabric.attach({ network: first, egressInterface });
    const guest = await openGuest("first", first);
    const [kept, fresh] = [
      { address: "203.0.113.2", port: 9000 },
      { address: "203.0.113.2", port: 8080 },
    ];
    assert.equal(await expectingAnswers(() => guest.connect(kept, 1)), 1);
    const { limit = 0 } = (await readConnectionTable()) ?? {};
    const list = join(folder, "connections");
    await writeFile(list, answeredConnections(limit));
    // It ends at the first that has no room.
    const { stderr } = await run("conntrack", ["--load-file", list], { acceptedExitCodes: [1] });
    assert.match(stderr, /not enough memory/);
    assert.equal((await readConnectionTable())?.isNearlyFull, true);
    assert.equal(await expectingAnswers(() => guest.say(kept, "still there")), "still there");
    assert.equal(await guest.tcp(fresh), undefined, "there is no room for a new one");
    await guest.hangUp();
    await run("conntrack", ["-F"]);
    assert.notEqual(await expectingAnswers(() => guest.tcp(fresh)), undefined);
    await guest.close();
  });

  test("a new daemon finds what the last one attached, keeps it and can remove it", async () => {
    for (const network of [first, second, third]) await fabric.attach({ network, egressInterface });
    const rules = await rulesNow();
    await fabric.release();
    const successor = createFabric({ subnets: [subnet] });
    await successor.open();
    assert.equal(await rulesNow(), rules);
    assert.deepEqual(await successor.sweep(new Set([first.tapName, second.tapName])), [third.tapName]);
    await successor.detach(second);
    assert.deepEqual(await successor.listTaps(), [first.tapName]);
    await successor.release();
    // The old one knows nothing of that and must cope.
    await fabric.detach(second);
    await fabric.detach(first);
  });

  test("other static rules replace the old ones and keep the VMs", async () => {
    await fabric.attach({ network: first, egressInterface });
    const elements = await elementsNow();
    await fabric.release();
    const other = createFabric({ subnets: [subnet], dnsServers: ["192.0.2.53"] });
    await other.open();
    await other.release();
    assert.ok((await rulesNow()).includes("192.0.2.53"));
    assert.deepEqual(await elementsNow(), elements);
    await fabric.open();
    assert.ok(!(await rulesNow()).includes("192.0.2.53"));
    assert.deepEqual(await elementsNow(), elements);
  });

  test("an attachment comes whole although somebody removed the tables or the TAP", async () => {
    await fabric.attach({ network: first, egressInterface });
    const elements = await elementsNow();
    await run("nft", ["delete", "table", "inet", "fleetingd"]);
    await fabric.attach({ network: second, egressInterface });
    assert.equal((await elementsNow()).length, 8);
    await ip("link", "delete", first.tapName);
    await run("nft", ["delete", "table", "arp", "fleetingd"]);
    await fabric.attach({ network: first, egressInterface });
    await fabric.detach(second);
    assert.deepEqual(await elementsNow(), elements);
    assert.deepEqual(await fabric.listTaps(), [first.tapName]);
  });

  test("two hundred leases at once come and go", async () => {
    const leases = createLeases(subnet);
    const networks = Array.from({ length: 200 }, () => leases.acquire());
    await Promise.all(networks.map((network) => fabric.attach({ network, egressInterface })));
    const names = networks.map(({ tapName }) => tapName).sort();
    assert.deepEqual((await fabric.listTaps()).sort(), names);
    assert.deepEqual([...(await fabric.counters()).keys()].sort(), names);
    await Promise.all(networks.map((network) => fabric.detach(network)));
    assert.deepEqual(await fabric.listTaps(), []);
  });

  test("four thousand leases of a /16, and one more among them costs those nothing", async (t) => {
    const leases = createLeases(subnet);
    const networks = Array.from({ length: 4_000 }, () => leases.acquire());
    const begunAt = performance.now();
    await Promise.all(networks.map((network) => fabric.attach({ network, egressInterface })));
    const attachedAt = performance.now();
    assert.equal((await fabric.listTaps()).length, 4_000);
    assert.equal((await fabric.counters()).size, 4_000);
    const [some = assert.fail(), late] = [networks[1_234], leases.acquire()];
    const guest = await openGuest("some", some);
    const isOpen = async () => (await guest.tcp({ address: "203.0.113.2", port: 8080 })) !== undefined;
    assert.equal(await expectingAnswers(isOpen), true);
    const counted = (await fabric.counters()).get(some.tapName);
    await fabric.attach({ network: late, egressInterface });
    await fabric.detach(late);
    assert.deepEqual((await fabric.counters()).get(some.tapName), counted);
    assert.equal(await expectingAnswers(isOpen), true);
    await guest.close();
    await fabric.close();
    assert.deepEqual(await fabric.listTaps(), []);
    await fabric.open();
    t.diagnostic(`attached in ${((attachedAt - begunAt) / 1000).toFixed(1)} s`);
  });

  test("attach and detach of one VM take effect in their order", async () => {
    const attachment = { network: first, egressInterface };
    await Promise.all([fabric.attach(attachment), fabric.detach(first), fabric.attach(attachment)]);
    assert.deepEqual(await fabric.listTaps(), [first.tapName]);
    await Promise.all([fabric.detach(first), fabric.attach(attachment), fabric.detach(first)]);
    assert.deepEqual(await fabric.listTaps(), []);
  });

  test("somebody else's interface of our name is neither used nor removed", async () => {
    await ip("tuntap", "add", "dev", first.tapName, "mode", "tap");
    const before = await ip("-d", "link", "show", "dev", first.tapName);
    const refusal = { code: "ALREADY_EXISTS", message: /fltap0a400002 exists but was not made by fleetingd/ };
    await assert.rejects(fabric.attach({ network: first, egressInterface }), refusal);
    assert.deepEqual(await elementsNow(), []);
    await assert.rejects(fabric.detach(first), refusal);
    await fabric.attach({ network: second, egressInterface });
    assert.equal(await ip("-d", "link", "show", "dev", first.tapName), before);
    assert.deepEqual(await fabric.listTaps(), [second.tapName]);
    await ip("link", "delete", first.tapName);
  });

  describe("a failure is one clear error and leaves nothing", () => {
    const nothingLeft = async (): Promise<void> => {
      process.env["PATH"] = path;
      assert.deepEqual(await fabric.listTaps(), []);
      assert.deepEqual(await elementsNow(), []);
    };
    /** A PATH with nothing but `ip` and, perhaps, this script as `nft`. */
    const restrictPath = async (name: string, nft?: string): Promise<void> => {
      const bin = await mkdtemp(join(folder, name));
      for (const program of ["ip", "sh", "cat", "sleep"]) {
        await symlink((await findProgram(program)) ?? assert.fail(program), join(bin, program));
      }
      if (nft !== undefined) {
        await writeFile(join(bin, "nft"), nft);
        await chmod(join(bin, "nft"), 0o755);
      }
      // The program that runs already would do, too.
      await fabric.release();
      process.env["PATH"] = bin;
    };

    test("nft is missing", async () => {
      await restrictPath("none");
      await assert.rejects(fabric.attach({ network: first, egressInterface }), {
        code: "MISSING_PROGRAM",
        message: /the program nft was not found/,
      });
      await nothingLeft();
    });

    test("nft always fails", async () => {
      await restrictPath("failing", "#!/bin/sh\necho broken >&2\nexit 1\n");
      await assert.rejects(fabric.attach({ network: first, egressInterface }), {
        code: "COMMAND_FAILED",
        message: /failed with exit code 1: nft .*\nbroken/,
      });
      await nothingLeft();
    });

    test("nft fails once: then it is tried again, and that works", async () => {
      const real = await findProgram("nft");
      const mark = join(folder, "failed-once");
      await fabric.open();
      await restrictPath(
        "once",
        `#!/bin/sh\nif [ -e ${mark} ]; then exec ${real} "$@"; fi\n: >${mark}\nexit 1\n`,
      );
      await fabric.attach({ network: first, egressInterface });
      process.env["PATH"] = path;
      assert.deepEqual(await fabric.listTaps(), [first.tapName]);
      assert.equal((await elementsNow()).length, 4);
    });

    test("nft hangs", async () => {
      await fabric.open();
      await restrictPath("hanging", "#!/bin/sh\nexec sleep 1000\n");
      await assert.rejects(fabric.attach({ network: first, egressInterface }), {
        code: "TIMEOUT",
        message: /timed out after \d+ s: nft/,
      });
      await nothingLeft();
    });

    test("the egress interface does not exist", async () => {
      await assert.rejects(fabric.attach({ network: first, egressInterface: "gone0" }), {
        code: "NOT_FOUND",
        message: "there is no network interface gone0",
      });
      await nothingLeft();
    });

    test("one of several that come together is bad", async () => {
      await ip("tuntap", "add", "dev", second.tapName, "mode", "tun");
      const outcomes = await Promise.allSettled(
        [first, second, third].map((network) => fabric.attach({ network, egressInterface })),
      );
      assert.deepEqual(
        outcomes.map(({ status }) => status),
        ["fulfilled", "rejected", "fulfilled"],
      );
      assert.deepEqual((await fabric.listTaps()).sort(), [first.tapName, third.tapName]);
      await ip("link", "delete", second.tapName);
    });

    test("a record with a name that is not ours", async () => {
      const stranger: SlotNetwork = { ...first, tapName: egressInterface };
      await assert.rejects(fabric.attach({ network: stranger, egressInterface }), {
        code: "INVALID_ARGUMENT",
      });
      await assert.rejects(fabric.detach(stranger), { code: "INVALID_ARGUMENT" });
      assert.match(await ip("link", "show", egressInterface), /egress0/);
    });
  });

  test("close puts back the forwarding of the egress interface", async () => {
    const forwarding = async (): Promise<string> =>
      (await run("cat", [`/proc/sys/net/ipv4/conf/${egressInterface}/forwarding`])).stdout.trim();
    await fabric.attach({ network: first, egressInterface });
    assert.equal(await forwarding(), "1");
    await fabric.close();
    await fabric.close();
    assert.equal(await forwarding(), "0");
    assert.equal(await rulesNow(), foreignBefore);
  });
});
