/** Checks of values that become text for nft: nothing that it could read as something else gets through. */
import { isIPv4 } from "node:net";
import { FleetingdError } from "../errors.ts";

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
  if (!Number.isInteger(port) || port < 1 || port > 65_535) throw oddValue("port", String(port));
}

/** @throws FleetingdError INVALID_ARGUMENT */
export function checkPrefix(prefix: string): void {
  const [address = "", length = "", ...rest] = prefix.split("/");
  checkAddress(address);
  if (rest.length > 0 || !/^([1-9]|[12]\d|3[0-2])$/.test(length)) throw oddValue("IPv4 prefix", prefix);
}

/** @throws FleetingdError INVALID_ARGUMENT */
export function checkAddress(address: string): void {
  if (!isIPv4(address)) throw oddValue("IPv4 address", address);
}

/** The error for a value that must not become text for nft. */
export function oddValue(kind: string, value: string): FleetingdError {
  return new FleetingdError("INVALID_ARGUMENT", `${JSON.stringify(value)} is not a valid ${kind}`);
}
