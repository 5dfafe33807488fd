/** IPv6 addresses and prefixes as numbers; nothing here knows of VMs. */
import { isIPv6 } from "node:net";
import { FleetingdError } from "../errors.ts";

/** An IPv6 prefix in CIDR form, and its length. */
export interface Ipv6Prefix {
  cidr: string;
  length: number;
}

const BITS = 128;
const GROUPS = 8;
const GROUP_BITS = 16n;
const GROUP_MASK = 0xffffn;

/** @throws FleetingdError INVALID_CONFIG with one sentence on what is wrong */
export function parseIpv6Prefix(text: string): Ipv6Prefix {
  const [, address = "", digits = ""] = /^([0-9a-fA-F:.]+)\/(\d{1,3})$/.exec(text) ?? [];
  const length = Number(digits);
  if (!isIPv6(address) || length > BITS || (digits.length > 1 && digits.startsWith("0"))) {
    throw refusal(text, "is not an IPv6 prefix such as fd12:3456:789a::/64");
  }
  const value = parseIpv6(address);
  const hostBits = BigInt(BITS - length);
  const base = (value >> hostBits) << hostBits;
  if (base !== value) {
    throw refusal(text, `is an address inside a prefix; the prefix itself is ${formatIpv6(base)}/${length}`);
  }
  return { cidr: `${formatIpv6(base)}/${length}`, length };
}

/** The number of an address that `isIPv6` accepts; a zone counts for nothing. */
export function parseIpv6(address: string): bigint {
  // The last four bytes may be written as an IPv4 address.
  const plain = address
    .replace(/%.*$/, "")
    .replace(/(\d+)\.(\d+)\.(\d+)\.(\d+)$/, (_, ...bytes: string[]) => {
      const [a = 0, b = 0, c = 0, d = 0] = bytes.slice(0, 4).map(Number);
      return `${(a * 256 + b).toString(16)}:${(c * 256 + d).toString(16)}`;
    });
  const [head = [], tail = []] = plain
    .split("::")
    .map((part) => part.split(":").filter((group) => group !== ""));
  const zeros = Array.from({ length: GROUPS - head.length - tail.length }, () => "0");
  return [...head, ...zeros, ...tail].reduce(
    (value, group) => (value << GROUP_BITS) | BigInt(`0x${group}`),
    0n,
  );
}

/** The usual short form (RFC 5952): the longest run of zeros as `::`. */
export function formatIpv6(value: bigint): string {
  const groups = Array.from({ length: GROUPS }, (_, index) =>
    ((value >> (BigInt(GROUPS - 1 - index) * GROUP_BITS)) & GROUP_MASK).toString(16),
  );
  const text = groups.join(":");
  const runs = [...text.matchAll(/\b0(:0)+\b/g)].sort((one, other) => other[0].length - one[0].length);
  const [longest] = runs;
  if (longest === undefined) return text;
  const before = text.slice(0, longest.index).replace(/:$/, "");
  const after = text.slice(longest.index + longest[0].length).replace(/^:/, "");
  return `${before}::${after}`;
}

/** Whether two prefixes have addresses in common. */
export function ipv6PrefixesOverlap(one: Ipv6Prefix, other: Ipv6Prefix): boolean {
  const shift = BigInt(BITS - Math.min(one.length, other.length));
  return networkNumber(one) >> shift === networkNumber(other) >> shift;
}

/** The prefix's first address as a number. */
export function networkNumber({ cidr }: Ipv6Prefix): bigint {
  return parseIpv6(cidr.slice(0, cidr.indexOf("/")));
}

function refusal(text: string, reason: string): FleetingdError {
  return new FleetingdError("INVALID_CONFIG", `${JSON.stringify(text)} ${reason}`);
}
