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
import {
  type Endpoint,
  expectingAnswers,
  ip,
  openGuest,
  openHost,
  openNeighbour,
  type Place,
  type Transfer,
} from "../../helpers/netns.ts";
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

  const isShut = async (address: string, port = WEB, from = guest): Promise<boolean> =>
    (await from.tcp({ address, port })) === undefined;
  const isOpen = async (address: string, port = WEB, from = guest): Promise<boolean> =>
    !(await expectingAnswers(() => isShut(address, port, from)));
  /** The echo of what was said through a connection that has to go on. */
  const hears = (from: Place, endpoint: Endpoint, text: string): Promise<string | undefined> =>
    expectingAnswers(() => from.say(endpoint, text));
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
    for (const address of [PUBLIC, PRIVATE, CGNAT]) assert.ok(await isOpen(address), address);
    assert.ok(await isShut(alice.gateway));
  });

  test("lets the processes of VMs say nothing on the network themselves", async () => {
    const connects = async (user: number, address: string, seconds = "1"): Promise<boolean> => {
      const command = ["bash", "-c", `exec 3<>/dev/tcp/${address}/${WEB}`];
      const identity = [`--reuid=${user}`, `--regid=${user}`, "--clear-groups"];
      const { exitCode } = await run("timeout", [seconds, "setpriv", ...identity, ...command], {
        acceptedExitCodes: [0, 1, 124],
      });
      return exitCode === 0;
    };
    const addresses = [PUBLIC, "127.0.0.1", alice.gateway];
    const ofVms = addresses.flatMap((address) => [
      connects(VM_USER, address),
      connects(VM_USER + 1, address),
    ]);
    assert.deepEqual(new Set(await Promise.all(ofVms)), new Set([false]));
    for (const address of addresses)
      assert.equal(await connects(VM_USER + 2, address, "60"), true, `${address}, as somebody else`);
  });

  test("denies prefixes, except where others are allowed, and resolvers never", async () => {
    await apply({ deny: PRIVATE_PREFIXES });
    assert.ok(await isOpen(PUBLIC));
    assert.ok(await isShut(PRIVATE));
    assert.ok(await isShut(CGNAT));
    assert.ok(await isOpen(PRIVATE, WEB, other), "another pool's VM is not meant");
    await apply({ deny: ["203.0.113.0/24"] });
    assert.ok(await isShut(PUBLIC));
    assert.ok(await isOpen(RESOLVER, 53));
    await apply({
      deny: [...PRIVATE_PREFIXES, "192.168.7.0/24"],
      allow: [parseAllowed(`${PRIVATE} tcp/${API}`), parseAllowed("100.64.0.0/16")],
    });
    assert.ok(await isOpen(PRIVATE, API));
    assert.ok(await isShut(PRIVATE, WEB));
    assert.ok(await isOpen(CGNAT));
  });

  test("`none` allows what is named, and nothing by way of DNS", async () => {
    await apply({ egress: "none" });
    for (const [address, port] of [
      [PUBLIC, WEB],
      [RESOLVER, 53],
      [HOST, 53],
    ] as const) {
      assert.ok(await isShut(address, port), `${address}:${port}`);
    }
    assert.equal(await guest.ping(PUBLIC), false);
    await expectingAnswers(async () => {
      assert.equal(await guest.ping(alice.gateway), true);
      assert.equal(await host.ping(alice.address), true, "the host's own way in");
    });
    await apply({ egress: "none", allow: [parseAllowed(`${PUBLIC} tcp/8000-8100`)] });
    assert.ok(await isOpen(PUBLIC, WEB));
    assert.ok(await isShut(PUBLIC, API));
  });

  test("opens the gateway's services that are named, and no other address of the host", async () => {
    await apply({ hostServices: [parsePorts(`tcp/${API}`)] });
    assert.ok(await isOpen(alice.gateway, API));
    assert.ok(await isShut(alice.gateway, WEB));
    assert.ok(await isShut(HOST, API));
    assert.ok(await isShut(bob.gateway, API));
    assert.ok(await isShut(bob.gateway, API, other));
  });

  test("cuts connections that it forbids, and no other", async () => {
    const [kept, cut] = [
      { address: PUBLIC, port: ECHO },
      { address: PRIVATE, port: ECHO },
    ];
    for (const endpoint of [kept, cut])
      assert.equal(await expectingAnswers(() => guest.connect(endpoint, 1)), 1);
    const say = async (text: string) => [await hears(guest, kept, text), await guest.say(cut, text)];
    assert.deepEqual(await expectingAnswers(() => say("one")), ["one", "one"]);
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
    assert.equal(await expectingAnswers(() => guest.connect(service, 1)), 1);
    assert.equal(await expectingAnswers(() => host.connect(own, 1)), 1);
    assert.equal(await hears(guest, service, "one"), "one");
    await apply({ hostServices: [parsePorts(`tcp/${HOST_ECHO}`)], maxConnections: 7 });
    assert.equal(await hears(guest, service, "two"), "two");
    await apply({ egress: "none" });
    assert.equal(await guest.say(service, "three"), undefined);
    assert.equal(await hears(host, own, "four"), "four");
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
    assert.ok(await isOpen(PUBLIC, WEB, other), "another VM has its own");
    assert.ok(await isShut(PUBLIC));
    await guest.hangUp();
    await run("conntrack", ["-D", "--orig-src", alice.address]);
    assert.ok(await isOpen(PUBLIC), "closed ones don't count");
  });

  test("bounds new connections a second, of each VM", async () => {
    await apply({ newConnectionsPerSecond: 5 });
    const made = await guest.connect({ address: PUBLIC, port: ECHO }, 100);
    // The burst, and what the time that it takes brings.
    assert.ok(made >= 10 && made <= 60, `${made} connections at once`);
    assert.ok(await isOpen(PUBLIC, WEB, other), "another VM has its own");
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
      timeoutMs: 60_000,
      intervalMs: 50,
      what: "200 datagrams",
    });
  });

  test("bounds the bandwidth, either way", async (t) => {
    const [sink, source] = [
      { address: PUBLIC, port: SINK },
      { address: PUBLIC, port: SOURCE },
    ];
    const up = async (from: Place): Promise<Transfer> => {
      let before = -1;
      for (let now = await outside.sunk(); now !== before; now = await outside.sunk()) {
        before = now;
        await sleep(SETTLE_MS);
      }
      const durationMs = await from.upload(sink, MEASURED_MS);
      return { bytes: (await outside.sunk()) - before, durationMs };
    };
    const bound = 1_000_000;
    // The kernel gives a second's worth, and the burst, at once.
    const most = ({ durationMs }: Transfer): number => bound * (durationMs / 1000 + 1) + 256 * 1024 + 200_000;
    const isBound = (one: Transfer): boolean => one.bytes > bound / 4 && one.bytes < most(one);
    const free = { up: await up(guest), down: await guest.download(source, MEASURED_MS) };
    for (const one of [free.up, free.down]) assert.ok(one.bytes > 2 * most(one), JSON.stringify(free));
    await apply({ upBytesPerSecond: bound, downBytesPerSecond: bound });
    const less = { up: await up(guest), down: await guest.download(source, MEASURED_MS) };
    assert.ok(isBound(less.up) && isBound(less.down), JSON.stringify(less));
    t.diagnostic(`without a bound ${JSON.stringify(free)}, with one ${JSON.stringify(less)}`);
    const others = await up(other);
    assert.ok(others.bytes > most(others), "another pool is not bound");
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
        const probe = () => guest.tcp({ address: PUBLIC, port: portOf(other) });
        const answer = other === index ? await expectingAnswers(probe) : await probe();
        assert.equal(
          answer !== undefined,
          other === index,
          `${nameOf(index)} to the port of ${nameOf(other)}`,
        );
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
