/**
 * Slots: a slot is one integer, and everything else of a VM's network follows from it by pure functions.
 * Slot 0 of `172.16.120.0/24` is `172.16.120.0/30`: the host has .1 on the TAP, the guest .2; slot 1 has .5 and .6.
 */
import { ip2long, long2ip, Netmask } from "netmask";
import { FleetingdError } from "../errors.ts";
import {
  formatIpv6,
  type Ipv6Prefix,
  ipv6PrefixesOverlap,
  networkNumber,
  parseIpv6,
  parseIpv6Prefix,
} from "./ipv6.ts";

/** The IPv4 prefix that VMs get their /30 networks from. */
export interface VmSubnet {
  /** Network address in CIDR form, `172.16.120.0/24`. */
  cidr: string;
  /** Number of /30 networks in it. */
  slotCount: number;
}

/** The network of one VM: a /30 with the host's TAP at one end and the guest at the other. */
export interface SlotNetwork {
  slot: number;
  /** `172.16.120.4/30` */
  cidr: string;
  prefixLength: 30;
  /** The TAP's address on the host: `172.16.120.5`. */
  gateway: string;
  /** The guest's address: `172.16.120.6`. */
  address: string;
  macAddress: string;
  tapName: string;
  /** Left out: the VM has no IPv6. */
  ipv6?: SlotNetwork6 | undefined;
}

/** The IPv6 side of a VM's network: a /126. */
export interface SlotNetwork6 {
  prefixLength: 126;
  gateway: string;
  address: string;
  /** What the guest makes of its MAC for itself (EUI-64). */
  linkLocal: string;
}

/** How the names of our TAPs begin. Rules match on it, so it has to be a prefix that nobody else uses. */
export const TAP_PREFIX = "fltap";

const SLOT_PREFIX_LENGTH = 30;
const SHORTEST_PREFIX_LENGTH = 8;
const ADDRESSES_PER_SLOT = 4;
const SLOT_PREFIX_LENGTH6 = 126;
const SHORTEST_PREFIX_LENGTH6 = 32;
const UNUSABLE_RANGES6 = ["::/32", "64:ff9b::/96", "fe80::/10", "ff00::/8"];
/** Ranges with a meaning of their own: no VM can have an address there. */
const UNUSABLE_RANGES: readonly (readonly [cidr: string, name: string])[] = [
  ["0.0.0.0/8", "“this network”"],
  ["127.0.0.0/8", "loopback"],
  ["169.254.0.0/16", "link-local"],
  ["224.0.0.0/4", "multicast"],
  ["240.0.0.0/4", "reserved"],
];
/** Every VM's record names one of few subnets, and thousands of records are read at once. */
const PARSED = new Map<string, VmSubnet>();
const MAX_PARSED = 256;
const HINT = "Use an unused private prefix such as 172.16.120.0/24.";

/**
 * Reads `172.16.120.0/24` or the short form `172.16.120.`, which means the same.
 * @throws FleetingdError INVALID_CONFIG with one sentence on what is wrong.
 */
export function parseVmSubnet(text: string): VmSubnet {
  const known = PARSED.get(text);
  if (known !== undefined) return known;
  const subnet = readVmSubnet(text);
  if (PARSED.size >= MAX_PARSED) PARSED.clear();
  PARSED.set(text, subnet);
  return subnet;
}

function readVmSubnet(text: string): VmSubnet {
  const match = /^(\d+)\.(\d+)\.(\d+)\.(?:(\d+)\/(\d+))?$/.exec(text);
  if (match === null) {
    throw refusal(text, "is neither an IPv4 prefix such as 172.16.120.0/24 nor the short form 172.16.120.");
  }
  const numbers = match.slice(1).filter((part) => part !== undefined);
  // `netmask` reads 010 as octal, so nothing but plain decimals may get that far.
  const odd = numbers.find((part) => part.length > 1 && part.startsWith("0"));
  if (odd !== undefined) throw refusal(text, `has a number with a leading zero (${odd})`);
  const octets = numbers.slice(0, 4);
  const tooLarge = octets.find((octet) => Number(octet) > 255);
  if (tooLarge !== undefined) throw refusal(text, `has ${tooLarge} where at most 255 can stand`);
  const prefixLength = Number(match[5] ?? "24");
  if (prefixLength < SHORTEST_PREFIX_LENGTH || prefixLength > SLOT_PREFIX_LENGTH) {
    throw refusal(text, `has the prefix length ${prefixLength}, but it must be from 8 to 30`);
  }
  const address = [...octets.slice(0, 3), match[4] ?? "0"].join(".");
  const block = new Netmask(`${address}/${prefixLength}`);
  if (block.base !== address) {
    throw refusal(text, `is an address inside a prefix; the prefix itself is ${block.base}/${prefixLength}`);
  }
  const cidr = `${block.base}/${prefixLength}`;
  const unusable = UNUSABLE_RANGES.find(([range]) => prefixesOverlap(cidr, range));
  if (unusable !== undefined) throw refusal(text, `overlaps the ${unusable[1]} range ${unusable[0]}`);
  return Object.freeze({ cidr, slotCount: 2 ** (SLOT_PREFIX_LENGTH - prefixLength) });
}

/**
 * The network of slot number `slot` in `subnet`.
 * @throws FleetingdError INVALID_ARGUMENT if the subnet has no such slot.
 */
export function slotNetwork(subnet: VmSubnet, slot: number, subnet6?: Ipv6Prefix): SlotNetwork {
  if (!Number.isInteger(slot) || slot < 0 || slot >= subnet.slotCount) {
    throw new FleetingdError(
      "INVALID_ARGUMENT",
      `the VM subnet ${subnet.cidr} has no slot ${slot}: they are numbered from 0 to ${subnet.slotCount - 1}`,
    );
  }
  const base = baseOf(subnet) + slot * ADDRESSES_PER_SLOT;
  const hex = hexOf(base + 2);
  const bytes = hex.match(/../g) ?? [];
  return {
    slot,
    cidr: `${long2ip(base)}/${SLOT_PREFIX_LENGTH}`,
    prefixLength: SLOT_PREFIX_LENGTH,
    gateway: long2ip(base + 1),
    address: long2ip(base + 2),
    // The second-lowest bit of the first byte says "locally administered".
    macAddress: ["02", "fc", ...bytes].join(":"),
    tapName: `${TAP_PREFIX}${hex}`,
    ...(subnet6 === undefined ? {} : { ipv6: slotNetwork6(subnet6, slot, bytes) }),
  };
}

/**
 * The IPv6 prefix that VMs get their /126 networks from, slot by slot as in the IPv4 prefix.
 * @throws FleetingdError INVALID_CONFIG with one sentence on what is wrong
 */
export function parseVmSubnet6(text: string): Ipv6Prefix {
  const prefix = parseIpv6Prefix(text);
  const odd = UNUSABLE_RANGES6.find((range) => ipv6PrefixesOverlap(prefix, parseIpv6Prefix(range)));
  if (prefix.length >= SHORTEST_PREFIX_LENGTH6 && prefix.length <= SLOT_PREFIX_LENGTH6 && odd === undefined) {
    return prefix;
  }
  const reason =
    odd === undefined
      ? `has the prefix length ${prefix.length}, but it must be from ${SHORTEST_PREFIX_LENGTH6} to ${SLOT_PREFIX_LENGTH6}`
      : `overlaps ${odd}, where no VM can have an address`;
  throw new FleetingdError("INVALID_CONFIG", `the VM subnet ${JSON.stringify(text)} ${reason}`, {
    hint: "Use a prefix that is routed to this host, or an unused one of fd00::/8 such as fd12:3456:789a::/64.",
  });
}

/** How many slots an IPv6 prefix has room for, at most those that an IPv4 prefix can have. */
export function slotCount6({ length }: Ipv6Prefix): number {
  return 2 ** Math.min(SLOT_PREFIX_LENGTH6 - length, SLOT_PREFIX_LENGTH - SHORTEST_PREFIX_LENGTH);
}

/** The slot that a guest, gateway or network address belongs to; undefined if it is outside the subnet. */
export function slotOfAddress(subnet: VmSubnet, address: string): number | undefined {
  const offset = ip2long(address) - baseOf(subnet);
  const slot = Math.floor(offset / ADDRESSES_PER_SLOT);
  return slot >= 0 && slot < subnet.slotCount ? slot : undefined;
}

/** The guest address that a TAP's name was made from; undefined if the name is not one of ours. */
export function addressOfTap(tapName: string): string | undefined {
  if (!isTapName(tapName)) return undefined;
  return long2ip(Number.parseInt(tapName.slice(TAP_PREFIX.length), 16));
}

/** Whether this is a name that we give to TAPs; says nothing about whose interface it is. */
export function isTapName(name: string): boolean {
  return name.startsWith(TAP_PREFIX) && /^[0-9a-f]{8}$/.test(name.slice(TAP_PREFIX.length));
}

/** Whether two IPv4 prefixes in CIDR form have addresses in common. */
export function prefixesOverlap(one: string, other: string): boolean {
  const [first, second] = [new Netmask(one), new Netmask(other)];
  return first.contains(second.base) || second.contains(first.base);
}

function slotNetwork6(subnet6: Ipv6Prefix, slot: number, bytes: readonly string[]): SlotNetwork6 {
  const base = networkNumber(subnet6) + BigInt(slot) * BigInt(ADDRESSES_PER_SLOT);
  // EUI-64: the bit of the MAC's "02" that says "locally administered" is the other way round here.
  const [a, b, c, d] = bytes;
  return {
    prefixLength: SLOT_PREFIX_LENGTH6,
    gateway: formatIpv6(base + 1n),
    address: formatIpv6(base + 2n),
    linkLocal: formatIpv6(parseIpv6(`fe80::fc:${a}ff:fe${b}:${c}${d}`)),
  };
}

function baseOf(subnet: VmSubnet): number {
  return ip2long(subnet.cidr.slice(0, subnet.cidr.indexOf("/")));
}

function hexOf(address: number): string {
  return address.toString(16).padStart(8, "0");
}

function refusal(text: string, reason: string): FleetingdError {
  return new FleetingdError("INVALID_CONFIG", `the VM subnet ${JSON.stringify(text)} ${reason}`, {
    hint: HINT,
  });
}
