/** What the VMs of a pool may do on the network beyond what holds for every VM: plain data, and how it is written. */
import { isIPv4 } from "node:net";
import { FleetingdError } from "../errors.ts";
import { parseIpv6Prefix } from "./ipv6.ts";
import { checkPrefix } from "./nft-values.ts";
import type { LocalService } from "./services.ts";

export interface Policy {
  /** The pool's name: its VMs are attached with it. */
  name: string;
  /** Whether VMs may open connections to the outside that no entry of `allow` names. */
  egress: "all" | "none";
  /** Prefixes, IPv4 or IPv6, that VMs may not reach unless `allow` names them. */
  deny: readonly string[];
  allow: readonly AllowedDestination[];
  /** Services of the host that VMs may use at their gateway's address. */
  hostServices: readonly Ports[];
  /** Those of the host's loopback that VMs may use. */
  services: readonly LocalService[];
  /** From the VM, of each VM; 0: unlimited. */
  upBytesPerSecond: number;
  /** To the VM from the outside, of each VM; 0: unlimited. */
  downBytesPerSecond: number;
  /** Of each VM: those that the kernel tracks at a time. */
  maxConnections: number;
  /** Of each VM; in bursts of four times as many. */
  newConnectionsPerSecond: number;
}

export interface Ports {
  protocol: "tcp" | "udp";
  first: number;
  last: number;
}

export interface AllowedDestination {
  prefix: string;
  /** Left out: everything. */
  ports?: Ports | undefined;
}

/** What stands for `PRIVATE_PREFIXES` in a list. */
export const PRIVATE = "private";

/** RFC 1918, CGNAT (RFC 6598), and IPv6's unique local addresses (RFC 4193). */
export const PRIVATE_PREFIXES: readonly string[] = [
  "10.0.0.0/8",
  "172.16.0.0/12",
  "192.168.0.0/16",
  "100.64.0.0/10",
  "fc00::/7",
];

/** For a VM that no pool's policy is for: the prebuild's, which runs what the operator has configured. */
export const DEFAULT_POLICY: Policy = {
  // No pool can be called that.
  name: "_any",
  egress: "all",
  deny: [],
  allow: [],
  hostServices: [],
  services: [],
  upBytesPerSecond: 0,
  downBytesPerSecond: 0,
  maxConnections: 4096,
  newConnectionsPerSecond: 500,
};

const PORT_MAX = 65_535;

/** `tcp/443` or `udp/6000-6100`. @throws FleetingdError INVALID_CONFIG */
export function parsePorts(text: string): Ports {
  const [, protocol, from = "", to = from] = /^(tcp|udp)\/(\d{1,5})(?:-(\d{1,5}))?$/.exec(text) ?? [];
  const [first, last] = [Number(from), Number(to)];
  if ((protocol !== "tcp" && protocol !== "udp") || first < 1 || last < first || last > PORT_MAX) {
    throw new FleetingdError(
      "INVALID_CONFIG",
      `${JSON.stringify(text)} is neither a protocol and a port such as "tcp/443" nor a range such as "udp/6000-6100"`,
    );
  }
  return { protocol, first, last };
}

/** An IPv4 or IPv6 prefix, or a single address, which becomes one. @throws FleetingdError INVALID_CONFIG */
export function parsePrefix(text: string): string {
  if (text.includes(":")) return parseIpv6Prefix(text.includes("/") ? text : `${text}/128`).cidr;
  const prefix = text.includes("/") ? text : `${text}/32`;
  try {
    checkPrefix(prefix);
  } catch (error) {
    throw new FleetingdError(
      "INVALID_CONFIG",
      `${JSON.stringify(text)} is not a prefix such as "10.0.0.0/8" or "fd00::/8", nor a single address`,
      { cause: error },
    );
  }
  const [address = "", length = ""] = prefix.split("/");
  return `${networkAddress(address, Number(length))}/${length}`;
}

/** `10.1.2.0/24`, or `10.1.2.3 tcp/443`. @throws FleetingdError INVALID_CONFIG */
export function parseAllowed(text: string): AllowedDestination {
  const [prefix = "", ports, ...rest] = text.trim().split(/ +/);
  if (rest.length > 0) {
    throw new FleetingdError("INVALID_CONFIG", `${JSON.stringify(text)} has more than a prefix and ports`);
  }
  return ports === undefined
    ? { prefix: parsePrefix(prefix) }
    : { prefix: parsePrefix(prefix), ports: parsePorts(ports) };
}

/** Without those that are inside others. */
export function outermost(
  prefixes: readonly string[],
  contains: (outer: string, inner: string) => boolean,
): string[] {
  const distinct = [...new Set(prefixes)];
  return distinct.filter((inner) => !distinct.some((outer) => outer !== inner && contains(outer, inner)));
}

export function isIpv4Prefix(prefix: string): boolean {
  return isIPv4(prefix.split("/")[0] ?? "");
}

function networkAddress(address: string, length: number): string {
  const value = address.split(".").reduce((sum, octet) => sum * 256 + Number(octet), 0);
  const base = value - (value % 2 ** (32 - length));
  return [24, 16, 8, 0].map((shift) => Math.floor(base / 2 ** shift) % 256).join(".");
}
