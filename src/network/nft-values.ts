/** Checks of values that become text for nft: nothing that it could read as something else gets through. */
import { isIPv4, isIPv6 } from "node:net";
import { FleetingdError, messageOf } from "../errors.ts";
import { parseIpv6Prefix } from "./ipv6.ts";
import type { LocalService } from "./services.ts";

/** Something on the host that VMs may use although the host is closed to them. */
export interface HostService {
  /** An IPv4 address of the host. */
  address: string;
  protocol: "tcp" | "udp";
  port: number;
}

/** @throws FleetingdError INVALID_ARGUMENT */
export function checkService({ address, protocol, port }: HostService): void {
  checkAddress(address);
  if (protocol !== "tcp" && protocol !== "udp") throw oddValue("protocol", protocol);
  checkPort(port);
}

function checkPort(port: number): void {
  if (!Number.isInteger(port) || port < 1 || port > 65_535) throw oddValue("port", String(port));
}

/** @throws FleetingdError INVALID_ARGUMENT */
export function checkLocalService({ address, port }: LocalService): void {
  checkAddress(address);
  if (!address.startsWith("127.")) throw oddValue("address of the loopback", address);
  checkPort(port);
}

/** @throws FleetingdError INVALID_ARGUMENT */
export function checkPrefix(prefix: string): void {
  const [address = "", length = "", ...rest] = prefix.split("/");
  checkAddress(address);
  if (rest.length > 0 || !/^([1-9]|[12]\d|3[0-2])$/.test(length)) throw oddValue("IPv4 prefix", prefix);
}

/** @throws FleetingdError INVALID_ARGUMENT */
export function checkPrefix6(prefix: string): void {
  try {
    if (parseIpv6Prefix(prefix).cidr === prefix) return;
  } catch (error) {
    throw oddValue("IPv6 prefix", prefix, messageOf(error));
  }
  throw oddValue("IPv6 prefix", prefix);
}

/** The address without a zone. @throws FleetingdError INVALID_ARGUMENT */
export function checkAddress6(address: string): void {
  if (!isIPv6(address) || address.includes("%")) throw oddValue("IPv6 address", address);
}

/** A pool's name, or the default policy's. @throws FleetingdError INVALID_ARGUMENT */
export function checkPolicyName(name: string): string {
  if (/^_?[a-z0-9-]{1,32}$/.test(name)) return name;
  throw oddValue("name of a policy", name);
}

/** @throws FleetingdError INVALID_ARGUMENT */
export function checkCount(kind: string, value: number, least: number): void {
  if (!Number.isSafeInteger(value) || value < least || value > MOST) throw oddValue(kind, String(value));
}

/** @throws FleetingdError INVALID_ARGUMENT */
export function checkAddress(address: string): void {
  if (!isIPv4(address)) throw oddValue("IPv4 address", address);
}

/** The error for a value that must not become text for nft. */
export function oddValue(kind: string, value: string, reason?: string): FleetingdError {
  const why = reason === undefined ? "" : ` (${reason})`;
  return new FleetingdError("INVALID_ARGUMENT", `${JSON.stringify(value)} is not a valid ${kind}${why}`);
}

// The kernel's counts of connections have 32 bits, and so have bursts.
const MOST = 2 ** 32 - 1;
