/**
 * The text of a policy's chains: `from_<pool>` and `to_<pool>` see all of a VM's traffic and are returned from; `out_<pool>` has
 * the last word on what leaves for the outside. A packet finds them by its TAP's link group. Invariant: a policy can be
 * replaced while VMs have it.
 */
import { Netmask } from "netmask";
import { ipv6PrefixesOverlap, parseIpv6Prefix } from "./ipv6.ts";
import { NFT_TABLE } from "./nft-elements.ts";
import {
  checkCount,
  checkLocalService,
  checkPolicyName,
  checkPrefix,
  checkPrefix6,
  oddValue,
} from "./nft-values.ts";
import { isIpv4Prefix, outermost, type Policy, type Ports } from "./policy.ts";
import { type LocalService, servicePorts } from "./services.ts";
import { policyGroup } from "./tap-groups.ts";

// A VM's counts are made when its first packet comes; the ones of rates go with its last.
const SET_SIZE = 65_535;
const FORGET_RATE_AFTER = "1m";
const BURST_SECONDS = 0.25;
const LEAST_BURST_BYTES = 256 * 1024;
const CONNECTION_BURST_SECONDS = 4;

/** The parts of our table `inet` that a policy is. @throws FleetingdError INVALID_ARGUMENT */
export function policyText(policy: Policy): string {
  const sets = meters(policy).map(({ name, type }) => `\tset ${name} {\n\t\t${type}\n\t}\n`);
  const chains = [...chainsOf(policy)].map(
    ([name, rules]) => `\tchain ${name} {\n${rules.map((rule) => `\t\t${rule}\n`).join("")}\t}\n`,
  );
  return [...sets, ...chains].join("");
}

/** Puts a policy in the place of one that is there, or adds it: VMs that have it keep their elements and connections. */
export function policyChangeText(before: Policy | undefined, after: Policy): string {
  const old = new Map((before === undefined ? [] : meters(before)).map(({ name, count }) => [name, count]));
  const sets = meters(after).flatMap(({ name, type, count }) => [
    `add set inet ${NFT_TABLE} ${name} { ${type} }`,
    ...(old.has(name) && old.get(name) !== count ? [`flush set inet ${NFT_TABLE} ${name}`] : []),
  ]);
  const chains = [...chainsOf(after)];
  const ways = before === undefined ? Object.entries(policyWays(after.name)) : [];
  return [
    ...sets,
    ...chains.map(([name]) => `add chain inet ${NFT_TABLE} ${name}`),
    ...chains.map(([name]) => `flush chain inet ${NFT_TABLE} ${name}`),
    ...chains.flatMap(([name, rules]) => rules.map((rule) => `add rule inet ${NFT_TABLE} ${name} ${rule}`)),
    ...ways.map(([map, element]) => `add element inet ${NFT_TABLE} ${map} { ${element} }`),
  ]
    .map((line) => `${line}\n`)
    .join("");
}

/** How a packet finds its policy's chains: an element for each of the maps in which its TAP's link group is looked up. */
export function policyWays(name: string): Record<"senders" | "receivers" | "ways_out", string> {
  const group = policyGroup(name);
  return {
    senders: `${group} : goto from_${name}`,
    receivers: `${group} : goto to_${name}`,
    ways_out: `${group} : goto out_${name}`,
  };
}

interface MeterSet {
  name: string;
  type: string;
  /** What each element counts. An element keeps what it was made with, so a set whose count changes is emptied. */
  count: string;
}

function meters(policy: Policy): [open: MeterSet, fresh: MeterSet, up: MeterSet, down: MeterSet] {
  const { maxConnections, newConnectionsPerSecond, upBytesPerSecond, downBytesPerSecond } = policy;
  const name = checkPolicyName(policy.name);
  checkCount("number of connections", maxConnections, 1);
  checkCount("number of connections", newConnectionsPerSecond, 1);
  const kept = `type ifname; size ${SET_SIZE}; flags dynamic;`;
  const forgotten = `type ifname; size ${SET_SIZE}; flags dynamic,timeout; timeout ${FORGET_RATE_AFTER};`;
  const burst = newConnectionsPerSecond * CONNECTION_BURST_SECONDS;
  return [
    { name: `open_${name}`, type: kept, count: `ct count over ${maxConnections}` },
    {
      name: `new_${name}`,
      type: forgotten,
      count: `limit rate over ${newConnectionsPerSecond}/second burst ${burst} packets`,
    },
    { name: `up_${name}`, type: forgotten, count: byteLimit(upBytesPerSecond) },
    { name: `down_${name}`, type: forgotten, count: byteLimit(downBytesPerSecond) },
  ];
}

function byteLimit(bytesPerSecond: number): string {
  checkCount("number of bytes", bytesPerSecond, 0);
  const burst = Math.max(LEAST_BURST_BYTES, Math.ceil(bytesPerSecond * BURST_SECONDS));
  return `limit rate over ${bytesPerSecond} bytes/second burst ${burst} bytes`;
}

function chainsOf(policy: Policy): Map<string, string[]> {
  const [open, fresh, up, down] = meters(policy);
  const { name, hostServices } = policy;
  const allowed = policy.allow.map(({ prefix, ports }) => `${destination(prefix)}${portMatch(ports)}`);
  const services = [
    ...policy.services.flatMap(admissions),
    ...hostServices.map((ports) => `fib daddr . iif type local${portMatch(ports)} accept`),
  ];
  return new Map([
    [
      `from_${name}`,
      [
        `ct state new add @${open.name} { iifname ${open.count} } drop`,
        // Of a connection that nobody has answered yet, every packet is in state `new`, but only the first is not confirmed.
        `ct state new ct status & confirmed != confirmed update @${fresh.name} { iifname ${fresh.count} } drop`,
        ...services,
        ...(policy.upBytesPerSecond > 0 ? [`update @${up.name} { iifname ${up.count} } drop`] : []),
        // A resolver on the host passes questions on to the outside.
        ...(policy.egress === "none" ? [...allowed.map((match) => `${match} return`), DROP_DNS] : []),
      ],
    ],
    [
      `to_${name}`,
      policy.downBytesPerSecond > 0 ? [`update @${down.name} { oifname ${down.count} } drop`] : [],
    ],
    [
      `out_${name}`,
      [
        ...(policy.egress === "all"
          ? ["ip daddr @dns_servers meta l4proto { tcp, udp } th dport 53 accept"]
          : []),
        "ip daddr @denied_destinations drop",
        "ip6 daddr @denied_destinations6 drop",
        ...allowed.map((match) => `${match} accept`),
        ...denials(policy.deny),
        policy.egress === "all" ? "accept" : "drop",
      ],
    ],
  ]);
}

/** Only by the way that our own translation leads. */
function admissions(service: LocalService): string[] {
  checkLocalService(service);
  const { address, port } = service;
  const protocols = new Set(servicePorts(service).map(({ protocol }) => protocol));
  return [...protocols].map(
    (protocol) => `ct status dnat ip daddr ${address} ${protocol} dport ${port} accept`,
  );
}

const DROP_DNS = "meta l4proto { tcp, udp } th dport 53 drop";

function destination(prefix: string): string {
  if (isIpv4Prefix(prefix)) {
    checkPrefix(prefix);
    return `ip daddr ${prefix}`;
  }
  checkPrefix6(prefix);
  return `ip6 daddr ${prefix}`;
}

function portMatch(ports: Ports | undefined): string {
  if (ports === undefined) return "";
  const { protocol, first, last } = ports;
  if (protocol !== "tcp" && protocol !== "udp") throw oddValue("protocol", protocol);
  checkCount("port", first, 1);
  checkCount("port", last, first);
  return ` ${protocol} dport ${first === last ? first : `${first}-${last}`}`;
}

function denials(prefixes: readonly string[]): string[] {
  const four = prefixes.filter(isIpv4Prefix);
  const six = prefixes.filter((prefix) => !isIpv4Prefix(prefix));
  for (const prefix of four) checkPrefix(prefix);
  for (const prefix of six) checkPrefix6(prefix);
  const denied4 = outermost(four, (outer, inner) => new Netmask(outer).contains(inner));
  const denied6 = outermost(six, contains6);
  return [
    ...(denied4.length === 0 ? [] : [`ip daddr { ${denied4.join(", ")} } drop`]),
    ...(denied6.length === 0 ? [] : [`ip6 daddr { ${denied6.join(", ")} } drop`]),
  ];
}

function contains6(outer: string, inner: string): boolean {
  const [wide, narrow] = [parseIpv6Prefix(outer), parseIpv6Prefix(inner)];
  return wide.length <= narrow.length && ipv6PrefixesOverlap(wide, narrow);
}
