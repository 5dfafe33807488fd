/**
 * The sets that hold VMs, and the text that puts VMs in and out. Invariant: the first field of every element is the
 * TAP's name, so a VM's elements can be found again.
 */
import { checkInterfaceName } from "./interface-name.ts";
import { checkAddress, checkAddress6, oddValue } from "./nft-values.ts";
import { isTapName, type SlotNetwork } from "./slots.ts";

/** The name of our tables, the only ones that we ever change. */
export const NFT_TABLE = "fleetingd";

/** A set of ours that holds VMs. */
export interface SetDefinition {
  family: "inet" | "arp";
  types: readonly string[];
  /** Whether the kernel counts packets and bytes for each element. */
  counted: boolean;
}

/** The sets that hold VMs, by a name that is unique over both tables. */
export const VM_SETS = {
  /** Who may send: TAP, MAC, IPv4 address. */
  guests: { family: "inet", types: ["ifname", "ether_addr", "ipv4_addr"], counted: true },
  /** Who may be sent to: TAP, IPv4 address. */
  back: { family: "inet", types: ["ifname", "ipv4_addr"], counted: true },
  /** The same two for IPv6; a VM has a link-local address besides, for neighbour discovery. */
  guests6: { family: "inet", types: ["ifname", "ether_addr", "ipv6_addr"], counted: true },
  back6: { family: "inet", types: ["ifname", "ipv6_addr"], counted: true },
  /** Which way out a VM has: TAP, egress interface. */
  egress: { family: "inet", types: ["ifname", "ifname"], counted: false },
  /** Who may ask for whom: TAP, MAC, guest's address, gateway's address. */
  arp_guests: {
    family: "arp",
    types: ["ifname", "ether_addr", "ipv4_addr", "ipv4_addr"],
    counted: false,
  },
} as const satisfies Record<string, SetDefinition>;

export type VmSetName = keyof typeof VM_SETS;

export function isVmSet(name: string): name is VmSetName {
  return Object.hasOwn(VM_SETS, name);
}

export function definitionOf(set: VmSetName): SetDefinition {
  return VM_SETS[set];
}

/** One element of one set; `key` has as many fields as it has types. */
export interface VmElement {
  set: VmSetName;
  key: readonly string[];
}

/**
 * The elements that let a VM communicate.
 * @throws FleetingdError INVALID_CONFIG for an odd interface name, INVALID_ARGUMENT for anything else that is odd:
 *   all this becomes text that nft reads
 */
export function elementsOf(network: SlotNetwork, egressInterface: string | undefined): VmElement[] {
  const { tapName, macAddress, address, gateway, ipv6 } = network;
  if (!isTapName(tapName)) throw oddValue("TAP name", tapName);
  if (!/^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/.test(macAddress)) throw oddValue("MAC address", macAddress);
  for (const each of [address, gateway]) checkAddress(each);
  const addresses6 = ipv6 === undefined ? [] : [ipv6.address, ipv6.linkLocal];
  for (const each of addresses6) checkAddress6(each);
  return [
    { set: "guests", key: [tapName, macAddress, address] },
    { set: "back", key: [tapName, address] },
    { set: "arp_guests", key: [tapName, macAddress, address, gateway] },
    ...addresses6.flatMap((each): VmElement[] => [
      { set: "guests6", key: [tapName, macAddress, each] },
      { set: "back6", key: [tapName, each] },
    ]),
    ...(egressInterface === undefined
      ? []
      : [{ set: "egress", key: [tapName, checkInterfaceName(egressInterface)] } as const]),
  ];
}

/** A VM's elements before and after a change; elements that stay keep their counters. */
export function changeText(before: readonly VmElement[], after: readonly VmElement[]): string {
  const kept = new Set(after.map(elementText));
  const removed = before.map(elementText).filter((text) => !kept.has(text));
  // Adding what is there already is harmless, and tells us if the table has gone.
  return [
    ...removed.map((text) => `delete element ${text}\n`),
    ...[...kept].map((text) => `add element ${text}\n`),
  ].join("");
}

function elementText({ set, key }: VmElement): string {
  const { family, types } = definitionOf(set);
  const fields = key.map((field, index) => (types[index] === "ifname" ? `"${field}"` : field)).join(" . ");
  return `${family} ${NFT_TABLE} ${set} { ${fields} }`;
}
