/**
 * A small world for network tests: the test's own network namespace is the host, an "outside" behind a veth is the
 * internet, and stand-in guests sit at the other end of real TAPs, which a QEMU without a machine keeps joined.
 * All of it is gone with the namespace, but `close` each thing anyway: suites assert that nothing is left.
 *
 * Only inside scripts/in-namespace, which gives it a /run/netns and a /sys of its own.
 */
import assert from "node:assert/strict";
import { AsyncLocalStorage } from "node:async_hooks";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { readdir } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { FleetingdError } from "../../src/errors.ts";
import { run } from "../../src/host/run.ts";
import { waitFor } from "../../src/host/wait.ts";

const NETNS_FOLDER = "/run/netns";
const AGENT = fileURLToPath(new URL("netns-agent.mjs", import.meta.url));
/** By a way that is shut no answer comes, however long it is waited for; by one that is open it does, however long that takes. */
export const NO_ANSWER_MS = 400;
const ANSWER_MS = 60_000;
const patience = new AsyncLocalStorage<number>();
const patienceMs = (): number => patience.getStore() ?? NO_ANSWER_MS;

/** Probes in `work` wait until an answer comes: for ways that have to be open. */
export function expectingAnswers<T>(work: () => Promise<T>): Promise<T> {
  return patience.run(ANSWER_MS, work);
}

/** Whether a listener at `place` has heard something that ends so, after the first `known` that it had heard. */
export function heardSince(place: Place, known: number, ending: string): Promise<boolean> {
  return comesAbout(async () => (await place.received()).slice(known).some((line) => line.endsWith(ending)));
}

/** Whether this is so in the end. */
export function comesAbout(holds: () => Promise<boolean>): Promise<boolean> {
  const options = { timeoutMs: patienceMs(), intervalMs: 20, what: "what is to come about" };
  return waitFor(async () => ((await holds()) ? true : undefined), options).catch((error: unknown) => {
    if (error instanceof FleetingdError && error.code === "TIMEOUT") return false;
    throw error;
  });
}

/** Runs `ip` in the test's own namespace. */
export async function ip(...args: string[]): Promise<string> {
  return (await run("ip", args)).stdout;
}

export interface Endpoint {
  address: string;
  port: number;
}
export interface ProbeOptions {
  /** The source address to send from; the kernel's choice if it is left out. */
  from?: string;
  timeoutMs?: number;
}

export interface Transfer {
  bytes: number;
  /** On a busy machine it may have been more than was asked for. */
  durationMs: number;
}

/** Something that can listen and probe: a namespace with an agent in it. */
export interface Place {
  readonly name: string;
  /** Runs a program there. */
  run(file: string, ...args: string[]): Promise<string>;
  ip(...args: string[]): Promise<string>;
  /** Answers with the peer's address, unless it is silent; it may join a multicast group at an interface's address (UDP only). */
  listen(
    protocol: "tcp" | "udp",
    endpoint: Endpoint & { silent?: boolean; group?: { address: string; interface: string } },
  ): Promise<void>;
  /** What listeners there have received so far. */
  received(): Promise<string[]>;
  /** The address that the listener saw us at, or undefined if there was no answer. */
  tcp(endpoint: Endpoint, options?: ProbeOptions): Promise<string | undefined>;
  udp(endpoint: Endpoint, options?: ProbeOptions & { payload?: string }): Promise<string | undefined>;
  /** Listens for streams: `echo` gives back what comes, `sink` only counts it, `source` sends without end. */
  stream(kind: "echo" | "sink" | "source", endpoint: Endpoint): Promise<void>;
  /** Opens that many connections at once, which stay until `hangUp`; says how many were made. */
  connect(endpoint: Endpoint, count: number): Promise<number>;
  /** Says something through a connection to an echo; the echo, or undefined if none comes. */
  say(endpoint: Endpoint, text: string): Promise<string | undefined>;
  hangUp(): Promise<void>;
  /** How many bytes a source sends here in this time, or a little more. */
  download(endpoint: Endpoint, durationMs: number): Promise<Transfer>;
  /** Sends to a sink for this time; the sink's `sunk` says how much came there. Answers with the time that it was. */
  upload(endpoint: Endpoint, durationMs: number): Promise<number>;
  sunk(): Promise<number>;
  /** Whether an ICMP (or ICMPv6) echo is answered; `from` may be an address or an interface. */
  ping(address: string, from?: string): Promise<boolean>;
  /** Whether an ARP request for `address` is answered. */
  arping(address: string, device: string, from: string): Promise<boolean>;
  close(): Promise<void>;
}

/** The test's own namespace, which plays the host. */
export function openHost(): Promise<Place> {
  return openPlace("host", []);
}

/** A new, empty namespace. */
export async function openNamespace(name: string): Promise<Place> {
  await ip("netns", "add", name);
  const place = await openPlace(name, ["nsenter", `--net=${NETNS_FOLDER}/${name}`, "--"]);
  await place.ip("link", "set", "lo", "up");
  return {
    ...place,
    async close() {
      await place.close();
      await ip("netns", "delete", name);
    },
  };
}

/** A namespace behind a veth: `device` is the host's end. The first address is the host's, the second the namespace's. */
export async function openNeighbour(
  name: string,
  device: string,
  addresses: readonly [string, string],
  prefixLength = 24,
): Promise<Place> {
  const place = await openNamespace(name);
  await ip("link", "add", device, "type", "veth", "peer", "name", "uplink", "netns", name);
  await ip("address", "add", `${addresses[0]}/${prefixLength}`, "dev", device);
  await ip("link", "set", device, "up");
  await place.ip("address", "add", `${addresses[1]}/${prefixLength}`, "dev", "uplink");
  await place.ip("link", "set", "uplink", "up");
  return {
    ...place,
    async close() {
      // The kernel takes its time to remove a namespace's devices, so remove them first.
      await ip("link", "delete", device);
      await place.close();
    },
  };
}

export interface GuestNetwork {
  tapName: string;
  address: string;
  gateway: string;
  prefixLength: number;
  macAddress: string;
  ipv6?: { address: string; gateway: string; prefixLength: number } | undefined;
}

/** The device of a stand-in guest. */
export const GUEST_DEVICE = "guest0";

/**
 * A stand-in for a VM: a namespace whose device is joined to the far end of the TAP, as a hypervisor would do it,
 * with the guest's MAC, address and default route. One after the other, not at the same time.
 */
export async function openGuest(name: string, network: GuestNetwork): Promise<Place> {
  const place = await openNamespace(name);
  const joined = await joinTaps(network.tapName, GUEST_DEVICE);
  await ip("link", "set", GUEST_DEVICE, "netns", name);
  await place.ip("link", "set", GUEST_DEVICE, "address", network.macAddress, "up");
  await place.ip("address", "add", `${network.address}/${network.prefixLength}`, "dev", GUEST_DEVICE);
  await place.ip("route", "add", "default", "via", network.gateway);
  if (network.ipv6 !== undefined) {
    const { address, prefixLength, gateway } = network.ipv6;
    await place.ip("address", "add", `${address}/${prefixLength}`, "dev", GUEST_DEVICE, "nodad");
    await place.ip("-6", "route", "add", "default", "via", gateway);
  }
  return {
    ...place,
    async close() {
      await endChild(joined);
      await place.close();
    },
  };
}

/** Starts a server in a namespace, in the test's own if none is named; `end` ends it. */
export async function startServer(
  command: readonly string[],
  namespace?: string,
): Promise<{ end(): Promise<void> }> {
  const prefix = namespace === undefined ? [] : ["nsenter", `--net=${NETNS_FOLDER}/${namespace}`, "--"];
  const [file = "", ...args] = [...prefix, ...command];
  const child = spawn(file, args, { stdio: "ignore" });
  await once(child, "spawn");
  child.unref();
  return { end: () => endChild(child) };
}

/**
 * Opens all of our chains, as a control: what does not arrive now either proves nothing by not arriving. Source addresses
 * are translated no more.
 */
export async function openOurChains(): Promise<void> {
  const mark = "meta mark set meta mark | 0x40000000";
  await run("nft", ["-f", "-"], {
    input: `
      insert rule inet fleetingd check_source iifname "fltap*" ${mark} accept
      insert rule inet fleetingd check_destination oifname "fltap*" ${mark} accept
      insert rule inet fleetingd to_host accept
      insert rule inet fleetingd through_host accept
      insert rule inet fleetingd translate accept
      insert rule arp fleetingd input accept
    `,
  });
}

/** Joins an existing TAP with a new one by a QEMU that has a hub and nothing else. */
async function joinTaps(existing: string, fresh: string): Promise<ChildProcess> {
  const port = (id: string, ifname: string): string[] => [
    "-netdev",
    `tap,id=${id},ifname=${ifname},script=no,downscript=no`,
    "-netdev",
    `hubport,id=${id}-hub,hubid=0,netdev=${id}`,
  ];
  const args = ["-machine", "none", "-nodefaults", "-display", "none", "-monitor", "none"];
  const child = spawn("qemu-system-x86_64", [...args, ...port("near", existing), ...port("far", fresh)], {
    stdio: "ignore",
  });
  await once(child, "spawn");
  child.unref();
  await waitFor(
    async () => {
      assert.equal(child.exitCode, null, `QEMU could not join ${existing} and ${fresh}`);
      return (await readdir("/proc/sys/net/ipv4/conf")).includes(fresh) ? true : undefined;
    },
    { timeoutMs: 60_000, intervalMs: 20, what: `QEMU to join ${existing} and ${fresh}` },
  );
  return child;
}

interface AgentAnswer {
  id?: number;
  result?: unknown;
  error?: string;
}

async function openPlace(name: string, prefix: readonly string[]): Promise<Place> {
  const [file = "", ...args] = [...prefix, process.execPath, AGENT];
  const agent = spawn(file, args, { stdio: ["ignore", "inherit", "inherit", "ipc"] });
  await once(agent, "message");
  // A test that fails before it closes its places must not hang: only an unanswered question keeps us.
  agent.unref();
  agent.channel?.unref();
  const waiting = new Map<number, (answer: AgentAnswer) => void>();
  agent.on("message", (answer: AgentAnswer) => waiting.get(answer.id ?? -1)?.(answer));
  agent.on("exit", () => {
    for (const settle of waiting.values()) settle({ error: `the agent in ${name} has ended` });
  });
  let lastId = 0;
  const ask = async (action: string, options: object = {}): Promise<unknown> => {
    lastId += 1;
    const id = lastId;
    agent.channel?.ref();
    const answer = await new Promise<AgentAnswer>((settle) => {
      waiting.set(id, settle);
      agent.send({ id, action, ...options });
    });
    waiting.delete(id);
    if (waiting.size === 0) agent.channel?.unref();
    assert.equal(answer.error, undefined);
    return answer.result;
  };
  const runThere = async (
    program: string,
    programArgs: readonly string[],
    acceptedExitCodes = [0],
  ): Promise<{ exitCode: number; stdout: string }> => {
    const [first = "", ...rest] = [...prefix, program, ...programArgs];
    return run(first, rest, { acceptedExitCodes });
  };
  const text = (answer: unknown): string | undefined => (typeof answer === "string" ? answer : undefined);

  return {
    name,
    run: async (program, ...programArgs) => (await runThere(program, programArgs)).stdout,
    ip: async (...ipArgs) => (await runThere("ip", ipArgs)).stdout,
    listen: async (protocol, endpoint) => void (await ask("listen", { protocol, ...endpoint })),
    async received() {
      const list = await ask("received");
      assert.ok(Array.isArray(list));
      return list.map(String);
    },
    tcp: async (endpoint, options = {}) =>
      text(await ask("tcp", { timeoutMs: patienceMs(), ...endpoint, ...options })),
    udp: async (endpoint, options = {}) =>
      text(await ask("udp", { timeoutMs: patienceMs(), payload: "hello", ...endpoint, ...options })),
    stream: async (kind, endpoint) => void (await ask("stream", { kind, ...endpoint })),
    connect: async (endpoint, count) =>
      Number(await ask("connect", { timeoutMs: patienceMs() * 2, count, ...endpoint })),
    say: async (endpoint, said) =>
      text(await ask("say", { timeoutMs: patienceMs() * 2, text: said, ...endpoint })),
    hangUp: async () => void (await ask("hangUp")),
    download: async (endpoint, durationMs) =>
      (await ask("download", { timeoutMs: ANSWER_MS, durationMs, ...endpoint })) as Transfer,
    upload: async (endpoint, durationMs) =>
      Number(await ask("upload", { timeoutMs: ANSWER_MS, durationMs, ...endpoint })),
    sunk: async () => Number(await ask("sunk")),
    async ping(address, from) {
      const source = from === undefined ? [] : ["-I", from];
      return (
        (
          await runThere(
            "ping",
            ["-n", "-c", "1", "-W", String(patienceMs() / 1000), ...source, address],
            [0, 1, 2],
          )
        ).exitCode === 0
      );
    },
    async arping(address, device, from) {
      const seconds = Math.ceil(patienceMs() / 1000);
      const args = ["arping", "-c", "1", "-w", String(seconds), "-I", device, "-s", from, address];
      return (await runThere("busybox", args, [0, 1])).exitCode === 0;
    },
    close: () => endChild(agent),
  };
}

async function endChild(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  child.ref();
  const ended = once(child, "exit");
  child.kill("SIGTERM");
  await ended;
}
