/**
 * The text of the static rules, which look VMs up in sets and never change.
 *
 * Invariants:
 * - A rule applies only to packets that come from or go to an interface named `TAP_PREFIX*`; all else passes.
 * - Such a packet is dropped unless an element in a set lets it pass: a TAP without elements is shut.
 */
import { createHash } from "node:crypto";
import { MARK_PASSED, UNMARK_CHAINS } from "./guard-text.ts";
import { changeText, NFT_TABLE, VM_SETS, type VmElement, type VmSetName } from "./nft-elements.ts";
import { checkAddress, checkPrefix, checkService, type HostService } from "./nft-values.ts";
import { TAP_PREFIX } from "./slots.ts";

/** What the static rules depend on. */
export interface RuleOptions {
  /** Prefixes of VMs in CIDR form: nobody reaches them through the outside. */
  subnets: readonly string[];
  /** Resolvers that VMs may ask, also where they stand in a denied range or on the host itself. */
  dnsServers: readonly string[];
  hostServices: readonly HostService[];
}

/** Destinations that give away a cloud's secrets to whoever asks: no VM gets there, wherever they are routed. */
const METADATA_RANGES = ["169.254.0.0/16", "100.100.100.200/32", "168.63.129.16/32", "192.0.0.192/32"];

/** The name of an empty chain that says which static rules are in force, so that a later version can tell. */
export function rulesMarker(options: RuleOptions): string {
  return `rules_${createHash("sha256").update(staticText(options, "rules")).digest("hex").slice(0, 12)}`;
}

/** Both tables made anew with these elements, whether or not they exist. */
export function rebuildText(options: RuleOptions, elements: readonly VmElement[]): string {
  return `${removalText()}${staticText(options, rulesMarker(options))}${changeText([], elements)}`;
}

/** Removes both tables, whether or not they exist. */
export function removalText(): string {
  return (["inet", "arp"] as const)
    .map((family) => `add table ${family} ${NFT_TABLE}\ndelete table ${family} ${NFT_TABLE}\n`)
    .join("");
}

function staticText(options: RuleOptions, marker: string): string {
  const ours = `"${TAP_PREFIX}*"`;
  for (const prefix of options.subnets) checkPrefix(prefix);
  for (const server of options.dnsServers) checkAddress(server);
  for (const service of options.hostServices) checkService(service);
  const services = [
    ...options.hostServices,
    ...options.dnsServers.flatMap((address) =>
      (["tcp", "udp"] as const).map((protocol) => ({ address, protocol, port: 53 })),
    ),
  ].map(({ address, protocol, port }) => `${address} . ${protocol} . ${port}`);
  return `table inet ${NFT_TABLE} {
${vmSetText("guests")}${vmSetText("back")}${vmSetText("egress")}\
${constantSetText("dns_servers", "ipv4_addr", options.dnsServers)}\
${constantSetText("host_services", "ipv4_addr . inet_proto . inet_service", services)}\
${constantSetText("denied_destinations", "ipv4_addr", [...METADATA_RANGES, ...options.subnets], "flags interval; auto-merge; ")}\
	chain ${marker} {
	}
	chain check_source {
		type filter hook prerouting priority raw; policy accept;
		iifname ${ours} goto from_vm_unchecked
	}
	chain from_vm_unchecked {
		iifname . ether saddr . ip saddr @guests ${MARK_PASSED} accept
		drop
	}
	chain to_host {
		type filter hook input priority filter; policy accept;
		iifname ${ours} goto from_vm_to_host
	}
	chain from_vm_to_host {
		ct state established,related accept
		icmp type echo-request fib daddr . iif type local accept
		ip daddr . meta l4proto . th dport @host_services accept
		drop
	}
	chain through_host {
		type filter hook forward priority filter; policy accept;
		iifname ${ours} goto from_vm
		oifname ${ours} goto from_outside
	}
	chain from_vm {
		ct state invalid drop
		ip daddr @dns_servers meta l4proto { tcp, udp } th dport 53 iifname . oifname @egress accept
		ip daddr @denied_destinations drop
		iifname . oifname @egress accept
		drop
	}
	chain from_outside {
		ct state established,related accept
		drop
	}
	chain check_destination {
		type filter hook postrouting priority filter; policy accept;
		oifname ${ours} goto to_vm
	}
	chain to_vm {
		oifname . ip daddr @back ${MARK_PASSED} accept
		drop
	}
${UNMARK_CHAINS}\
	chain translate {
		type nat hook postrouting priority srcnat; policy accept;
		iifname ${ours} oifname != ${ours} masquerade
	}
}
table arp ${NFT_TABLE} {
${vmSetText("arp_guests")}\
	chain input {
		type filter hook input priority filter; policy accept;
		iifname ${ours} goto from_vm
	}
	chain from_vm {
		iifname . arp saddr ether . arp saddr ip . arp daddr ip @arp_guests accept
		drop
	}
}
`;
}

function vmSetText(name: VmSetName): string {
  const { types, counted } = VM_SETS[name];
  return `\tset ${name} {\n\t\ttype ${types.join(" . ")};${counted ? " counter;" : ""}\n\t}\n`;
}

function constantSetText(name: string, type: string, elements: readonly string[], flags = ""): string {
  const list = elements.length === 0 ? "" : ` elements = { ${[...new Set(elements)].join(", ")} }`;
  return `\tset ${name} {\n\t\ttype ${type}; ${flags}${list}\n\t}\n`;
}
