/** What virsh prints, as far as it is looked at. */
import { FleetingdError } from "../../errors.ts";

/** A volume that overlays are made on. */
export interface Template {
  path: string;
  format: string;
  capacityBytes: number;
}

/** Of `vol-dumpxml`. */
export function readTemplate(xml: string, name: string): Template {
  const path = /<path>([^<]+)<\/path>/.exec(xml)?.[1];
  const format = /<format type=['"]([^'"]+)['"]/.exec(xml)?.[1];
  const capacity = /<capacity unit=['"]bytes['"]>(\d+)</.exec(xml)?.[1];
  if (path !== undefined && format !== undefined && capacity !== undefined) {
    return { path: fromXml(path), format, capacityBytes: Number(capacity) };
  }
  throw new FleetingdError("INVALID_CONFIG", `the volume ${name} can't be a template: it is no disk image`);
}

/** Of `domcapabilities`; undefined for an architecture that runners have no word for. */
export function readArchitecture(xml: string): string | undefined {
  const names: Readonly<Record<string, string>> = { x86_64: "amd64", aarch64: "arm64" };
  return names[/<arch>([^<]+)</.exec(xml)?.[1] ?? ""];
}

/** Of `list --uuid`. */
export function readLines(text: string): string[] {
  return text
    .split("\n")
    .map((line) => line.trim())
    .filter((line) => line !== "");
}

/** Of `vol-list`: the names, which are the first column. */
export function readVolumes(text: string): string[] {
  return readLines(text).flatMap((line) => line.split(/\s+/, 1));
}

const ADDRESS = /^\s*(\S+)\s+([0-9a-f:]{17})\s+ipv([46])\s+([0-9a-f.:]+)\/\d+\s*$/gim;
const UNUSABLE = /^(127\.|169\.254\.|fe80:|::1$)/i;

/** Of `domifaddr --full`: an address of the card that is ours, or of any but the loopback if that one has none; IPv4 before IPv6. */
export function readAddress(text: string, macAddress: string): string | undefined {
  const all = [...text.matchAll(ADDRESS)]
    .map(([, device = "", mac = "", version = "", address = ""]) => ({ device, mac, version, address }))
    .filter(({ device, address }) => device !== "lo" && !UNUSABLE.test(address));
  const own = all.filter(({ mac }) => mac.toLowerCase() === macAddress);
  const found = own.length > 0 ? own : all;
  return (found.find(({ version }) => version === "4") ?? found[0])?.address;
}

const UNITS: Readonly<Record<string, number>> = {
  ...{ KiB: 1024, MiB: 1024 ** 2, GiB: 1024 ** 3, TiB: 1024 ** 4 },
  ...{ kB: 1e3, MB: 1e6, GB: 1e9, TB: 1e12 },
};

/** Bytes of a size such as `20GiB`. */
export function sizeInBytes(size: string): number {
  const [, digits = "0", unit = ""] = /^(\d+)(\w+)$/.exec(size) ?? [];
  return Number(digits) * (UNITS[unit] ?? 1);
}

function fromXml(text: string): string {
  return text.replaceAll("&lt;", "<").replaceAll("&gt;", ">").replaceAll("&amp;", "&");
}
