/** What pools may do on the network, and that a change of it takes effect at once without cutting what stays allowed. */
import assert from "node:assert/strict";
import { after, afterEach, before, describe, test } from "node:test";
import { run } from "../../../src/host/run.ts";
import { sleep, waitFor } from "../../../src/host/wait.ts";
import { createFabric, type Fabric } from "../../../src/network/fabric.ts";
import {
  DEFAULT_POLICY,
  type Policy,
  PRIVATE_PREFIXES,
  parseAllowed,
  parsePorts,
} from "../../../src/network/policy.ts";
import { parseVmSubnet, slotNetwork } from "../../../src/network/slots.ts";
import { needsNamespace } from "../../helpers/namespace.ts";
import { ip, openGuest, openHost, openNeighbour, type Place } from "../../helpers/netns.ts";
import { failOnLeaks } from "../../helpers/suite.ts";

const HOST = "203.0.113.1";
const PUBLIC = "203.0.113.2";
const PRIVATE = "192.168.7.7";
const CGNAT = "100.64.7.7";
const RESOLVER = "203.0.113.53";
const WEB = 8080;
const API = 8443;
const VM_USER = 1_900_000_000;
const PROCESS_USERS = { first: VM_USER, last: VM_USER + 1 };
const [ECHO, SINK, SOURCE, SILENT, HOST_ECHO] = [9000, 9001, 9002, 9003, 9004];
const MEASURED_MS = 1_500;
const SETTLE_MS = 100;

const subnet = parseVmSubnet("172.16.120.");
const [alice, bob] = [slotNetwork(subnet, 0), slotNetwork(subnet, 1)];
const open: Policy = { ...DEFAULT_POLICY, name: "ci" };

failOnLeaks();

describe("a pool's policy", { skip: needsNamespace() }, () => {
  let fabric: Fabric;
  let host: Place;
  let outside: Place;
  let guest: Place;
  let other: Place;

  const reaches = async (address: string, port = WEB, from = guest): Promise<boolean> =>
    (await from.tcp({ address, port })) !== undefined;
  const apply = (change: Partial<Policy>): Promise<void> => fabric.setPolicy({ ...open, ...change });

  before(async () => {
    host = await openHost();
    outside = await openNeighbour("outside", "egress0", [HOST, PUBLIC]);
    for (const address of [PRIVATE, CGNAT, RESOLVER]) {
      await outside.ip("address", "add", `${address}/32`, "dev", "lo");
    }
    await ip("route", "add", "default", "via", PUBLIC);
    for (const port of [WEB, API, 53]) {
      await outside.listen("tcp", { address: "0.0.0.0", port });
      await host.listen("tcp", { address: "0.0.0.0", port });
    }
    await outside.listen("udp", { address: "0.0.0.0", port: SILENT, silent: true });
    await outside.stream("echo", { address: "0.0.0.0", port: ECHO });
    await host.stream("echo", { address: "0.0.0.0", port: HOST_ECHO });
    await outside.stream("sink", { address: "0.0.0.0", port: SINK });
    await outside.stream("source", { address: "0.0.0.0", port: SOURCE });
    fabric = createFabric({
      subnets: [subnet],
      dnsServers: [RESOLVER],
      processUsers: PROCESS_USERS,
      policies: [open, { ...DEFAULT_POLICY, name: "other" }],
    });
    await fabric.open();
    await fabric.attach({ network: alice, egressInterface: "egress0", policy: "ci" });
    await fabric.attach({ network: bob, egressInterface: "egress0", policy: "other" });
    guest = await openGuest("alice", alice);
    await guest.stream("echo", { address: "0.0.0.0", port: ECHO });
    other = await openGuest("bob", bob);
  });

  afterEach(() => apply({}));

  after(async () => {
    await fabric.close();
    for (const place of [guest, other, outside, host]) await place.close();
  });

  test("allows everything outside unless something is said", async () => {
    for (const address of [PUBLIC, PRIVATE, CGNAT]) assert.equal(await reaches(address), true, address);
    assert.equal(await reaches(alice.gateway), false);
  });

  test("lets the processes of VMs say nothing on the network themselves", async () => {
    const connects = async (user: number, address: string): Promise<boolean> => {
      const command = ["bash", "-c", `exec 3<>/dev/tcp/${address}/${WEB}`];
      const identity = [`--reuid=${user}`, `--regid=${user}`, "--clear-groups"];
      const { exitCode } = await run("timeout", ["1", "setpriv", ...identity, ...command], {
        acceptedExitCodes: [0, 1, 124],
      });
      return exitCode === 0;
    };
    for (const address of [PUBLIC, "127.0.0.1", alice.gateway]) {
      assert.equal(await connects(VM_USER, address), false, address);
      assert.equal(await connects(VM_USER + 1, address), false, address);
      assert.equal(await connects(VM_USER + 2, address), true, `${address}, as somebody else`);
    }
  });

  test("denies prefixes, except where others are allowed, and resolvers never", async () => {
    await apply({ deny: PRIVATE_PREFIXES });
    assert.equal(await reaches(PUBLIC), true);
    assert.equal(await reaches(PRIVATE), false);
    assert.equal(await reaches(CGNAT), false);
    assert.equal(await reaches(PRIVATE, WEB, other), true, "another pool's VM is not meant");
    await apply({ deny: ["203.0.113.0/24"] });
    assert.equal(await reaches(PUBLIC), false);
    assert.equal(await reaches(RESOLVER, 53), true);
    await apply({
      deny: [...PRIVATE_PREFIXES, "192.168.7.0/24"],
      allow: [parseAllowed(`${PRIVATE} tcp/${API}`), parseAllowed("100.64.0.0/16")],
    });
    assert.equal(await reaches(PRIVATE, API), true);
    assert.equal(await reaches(PRIVATE, WEB), false);
    assert.equal(await reaches(CGNAT), true);
  });

  test("`none` allows what is named, and nothing by way of DNS", async () => {
    await apply({ egress: "none" });
    for (const [address, port] of [
      [PUBLIC, WEB],
      [RESOLVER, 53],
      [HOST, 53],
    ] as const) {
      assert.equal(await reaches(address, port), false, `${address}:${port}`);
    }
    assert.equal(await guest.ping(PUBLIC), false);
    assert.equal(await guest.ping(alice.gateway), true);
    assert.equal(await host.ping(alice.address), true, "the host's own way in");
    await apply({ egress: "none", allow: [parseAllowed(`${PUBLIC} tcp/8000-8100`)] });
    assert.equal(await reaches(PUBLIC, WEB), true);
    assert.equal(await reaches(PUBLIC, API), false);
  });

  test("opens the gateway's services that are named, and no other address of the host", async () => {
    await apply({ hostServices: [parsePorts(`tcp/${API}`)] });
    assert.equal(await reaches(alice.gateway, API), true);
    assert.equal(await reaches(alice.gateway, WEB), false);
    assert.equal(await reaches(HOST, API), false);
    assert.equal(await reaches(bob.gateway, API), false);
    assert.equal(await reaches(bob.gateway, API, other), false);
  });

  test("cuts connections that it forbids, and no other", async () => {
    const [kept, cut] = [
      { address: PUBLIC, port: ECHO },
      { address: PRIVATE, port: ECHO },
    ];
    for (const endpoint of [kept, cut]) assert.equal(await guest.connect(endpoint, 1), 1);
    const say = async (text: string) => [await guest.say(kept, text), await guest.say(cut, text)];
    assert.deepEqual(await say("one"), ["one", "one"]);
    await apply({ deny: PRIVATE_PREFIXES });
    assert.deepEqual(await say("two"), ["two", undefined]);
    await apply({
      egress: "none",
      allow: [parseAllowed(PUBLIC)],
      maxConnections: 7,
      upBytesPerSecond: 10 ** 6,
    });
    assert.deepEqual(await say("three"), ["three", undefined]);
    await guest.hangUp();
  });

  test("cuts connections to services of the host that it has no more, and never the host's own", async () => {
    const service = { address: alice.gateway, port: HOST_ECHO };
    const own = { address: alice.address, port: ECHO };
    await apply({ hostServices: [parsePorts(`tcp/${HOST_ECHO}`)] });
    assert.equal(await guest.connect(service, 1), 1);
    assert.equal(await host.connect(own, 1), 1);
    assert.equal(await guest.say(service, "one"), "one");
    await apply({ hostServices: [parsePorts(`tcp/${HOST_ECHO}`)], maxConnections: 7 });
    assert.equal(await guest.say(service, "two"), "two");
    await apply({ egress: "none" });
    assert.equal(await guest.say(service, "three"), undefined);
    assert.equal(await host.say(own, "four"), "four");
    await guest.hangUp();
    await host.hangUp();
  });

  test("leaves elements, counters and other pools' rules as they are", async () => {
    const before = (await fabric.counters()).get(bob.tapName);
    const chain = async (): Promise<string> =>
      (await run("nft", ["-a", "list", "chain", "inet", "fleetingd", "out_other"])).stdout;
    const rules = await chain();
    await apply({ deny: PRIVATE_PREFIXES });
    assert.equal(await chain(), rules);
    assert.deepEqual((await fabric.counters()).get(bob.tapName), before);
    // A daemon that comes with the same policies has nothing to write.
    await fabric.release();
    const next = createFabric({
      subnets: [subnet],
      dnsServers: [RESOLVER],
      processUsers: PROCESS_USERS,
      policies: [
        { ...open, deny: PRIVATE_PREFIXES },
        { ...DEFAULT_POLICY, name: "other" },
      ],
    });
    await next.open();
    await next.release();
    assert.equal(await chain(), rules);
    await fabric.open();
  });

  test("bounds open connections, of each VM", async () => {
    await apply({ maxConnections: 20 });
    const endpoint = { address: PUBLIC, port: ECHO };
    const made = await guest.connect(endpoint, 60);
    assert.ok(made > 0 && made <= 20, `${made} connections at a time`);
    assert.equal(await reaches(PUBLIC, WEB, other), true, "another VM has its own");
    assert.equal(await reaches(PUBLIC), false);
    await guest.hangUp();
    await run("conntrack", ["-D", "--orig-src", alice.address]);
    assert.equal(await reaches(PUBLIC), true, "closed ones don't count");
  });

  test("bounds new connections a second, of each VM", async () => {
    await apply({ newConnectionsPerSecond: 5 });
    const made = await guest.connect({ address: PUBLIC, port: ECHO }, 100);
    // The burst, and what the time that it takes brings.
    assert.ok(made >= 10 && made <= 40, `${made} connections at once`);
    assert.equal(await reaches(PUBLIC, WEB, other), true, "another VM has its own");
    const tracked = await run("conntrack", ["-L", "--orig-src", alice.address]);
    assert.ok(tracked.stdout.split("\n").length <= 120, "what is refused is not tracked");
    await guest.hangUp();
  });

  test("counts a connection without answers once, however much it sends", async () => {
    await apply({ newConnectionsPerSecond: 5 });
    await sleep(1_000);
    const before = (await outside.received()).length;
    await guest.run("perl", "-e", SEND_MANY, PUBLIC, String(SILENT), "200");
    await waitFor(async () => ((await outside.received()).length >= before + 200 ? true : undefined), {
      timeoutMs: 5_000,
      intervalMs: 50,
      what: "200 datagrams",
    });
  });

  test("bounds the bandwidth, either way", async (t) => {
    const [sink, source] = [
      { address: PUBLIC, port: SINK },
      { address: PUBLIC, port: SOURCE },
    ];
    const up = async (from: Place): Promise<number> => {
      let before = -1;
      for (let now = await outside.sunk(); now !== before; now = await outside.sunk()) {
        before = now;
        await sleep(SETTLE_MS);
      }
      await from.upload(sink, MEASURED_MS);
      return (await outside.sunk()) - before;
    };
    const bound = 1_000_000;
    // The kernel gives a second's worth, and the burst, at once.
    const most = bound * (MEASURED_MS / 1000 + 1) + 256 * 1024 + 200_000;
    const [freeUp, freeDown] = [await up(guest), await guest.download(source, MEASURED_MS)];
    assert.ok(freeUp > 2 * most && freeDown > 2 * most, `unbound: ${freeUp} up, ${freeDown} down`);
    await apply({ upBytesPerSecond: bound, downBytesPerSecond: bound });
    const [boundUp, boundDown] = [await up(guest), await guest.download(source, MEASURED_MS)];
    assert.ok(boundUp > bound / 4 && boundUp < most, `${boundUp} bytes up`);
    assert.ok(boundDown > bound / 4 && boundDown < most, `${boundDown} bytes down`);
    t.diagnostic(`up ${freeUp} → ${boundUp}, down ${freeDown} → ${boundDown} bytes in ${MEASURED_MS} ms`);
    assert.ok((await up(other)) > most, "another pool is not bound");
  });
});

/** Sends that many datagrams from one socket: `address port count`. */
const SEND_MANY = `
  use Socket;
  my ($address, $port, $count) = @ARGV;
  socket(my $socket, AF_INET, SOCK_DGRAM, 0) or die $!;
  my $to = pack_sockaddr_in($port, inet_aton($address));
  for (1 .. $count) { send($socket, "datagram", 0, $to) or die $!; select(undef, undef, undef, 0.002) }
`;

describe("256 pools", { skip: needsNamespace() }, () => {
  test("have a policy each, which a packet finds by one look, however many there are", async () => {
    const portOf = (index: number): number => 20_000 + index;
    const nameOf = (index: number): string => `pool-${index}`;
    const policies = Array.from({ length: 256 }, (_, index): Policy => {
      const allow = [parseAllowed(`${PUBLIC} tcp/${portOf(index)}`)];
      return { ...DEFAULT_POLICY, name: nameOf(index), egress: "none", allow };
    });
    const outside = await openNeighbour("outside", "egress0", [HOST, PUBLIC]);
    const fabric = createFabric({ subnets: [subnet], policies });
    await fabric.open();
    const attach = (index: number): Promise<void> =>
      fabric.attach({ network: alice, egressInterface: "egress0", policy: nameOf(index) });
    const chosen = [0, 100, 255];
    for (const index of chosen) await outside.listen("tcp", { address: "0.0.0.0", port: portOf(index) });
    await attach(0);
    const guest = await openGuest("alice", alice);
    for (const index of chosen) {
      await attach(index);
      for (const other of chosen) {
        const reached = (await guest.tcp({ address: PUBLIC, port: portOf(other) })) !== undefined;
        assert.equal(reached, other === index, `${nameOf(index)} to the port of ${nameOf(other)}`);
      }
    }
    for (const chain of ["by_sender", "by_receiver", "by_way_out"]) {
      const { stdout } = await run("nft", ["list", "chain", "inet", "fleetingd", chain]);
      assert.equal(stdout.match(/vmap/g)?.length, 1);
      assert.doesNotMatch(stdout, /pool-/);
    }
    await fabric.close();
    await guest.close();
    await outside.close();
  });
});
