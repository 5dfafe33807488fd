/**
 * The text of the static rules, which look VMs up in sets and never change.
 *
 * Invariants:
 * - A rule applies only to packets that come from or go to an interface named `TAP_PREFIX*`, and to those that the process
 *   of a VM sends itself; all else passes.
 * - Such a packet is dropped unless an element in a set lets it pass: a TAP without elements is shut.
 * - Where a packet says that it goes is where it goes: source routes (an option of IPv4, a header of IPv6) would lead it
 *   elsewhere after the rules.
 * - What a VM has opened to the host is asked of its policy packet by packet, as what it has opened to the outside: a
 *   change cuts it. Only answers to the host's own connections, the runner's SSH, always pass.
 * - The host hears ICMP errors from a VM only of the VM's own connections: of others, they would tell it that its packets
 *   to anybody have to be small.
 */
import { createHash } from "node:crypto";
import { MARK_PASSED, UNMARK_CHAINS } from "./guard-text.ts";
import { changeText, definitionOf, NFT_TABLE, type VmElement, type VmSetName } from "./nft-elements.ts";
import { policyChangeText, policyText, policyWays } from "./nft-policy.ts";
import {
  checkAddress,
  checkCount,
  checkLocalService,
  checkPrefix,
  checkPrefix6,
  checkService,
  type HostService,
} from "./nft-values.ts";
import type { Policy } from "./policy.ts";
import { type LocalService, SERVICE_ADDRESS, servicePorts } from "./services.ts";
import { TAP_PREFIX } from "./slots.ts";
import { checkGroups } from "./tap-groups.ts";

/** What the static rules depend on. */
export interface RuleOptions {
  /** Prefixes of VMs in CIDR form: nobody reaches them through the outside. */
  subnets: readonly string[];
  subnets6: readonly string[];
  /** Resolvers that VMs may ask, also where they stand in a denied range or on the host itself. */
  dnsServers: readonly string[];
  hostServices: readonly HostService[];
  /** Of the host's loopback, for VMs whose policies have them. */
  services: readonly LocalService[];
  /** The uids of VMs' processes, which have nothing to say on the network; undefined: they have none of their own. */
  processUsers?: { first: number; last: number } | undefined;
  /** By name. */
  policies: ReadonlyMap<string, Policy>;
}

/** Destinations that give away a cloud's secrets to whoever asks: no VM gets there, wherever they are routed. */
const METADATA_RANGES = ["169.254.0.0/16", "100.100.100.200/32", "168.63.129.16/32", "192.0.0.192/32"];
/** Besides them link-local addresses, and multicast. */
const METADATA_RANGES6 = ["fe80::/10", "ff00::/8", "fd00:ec2::254/128", "fd20:ce::254/128"];
/** Where IPv6 addresses are not the world's: such a VM is seen with the host's. */
const LOCAL_RANGE6 = "fc00::/7";

/** The name of an empty chain that says which static rules are in force, so that a later version can tell. */
export function rulesMarker(options: RuleOptions): string {
  return `rules_${createHash("sha256").update(staticText(options, "rules")).digest("hex").slice(0, 12)}`;
}

/** Both tables made anew with these elements, whether or not they exist. */
export function rebuildText(options: RuleOptions, elements: readonly VmElement[]): string {
  return `${removalText()}${staticText(options, rulesMarker(options))}${changeText([], elements)}`;
}

/**
 * Puts one policy in the place of another in tables that are as `before` says; nothing else changes.
 * @throws FleetingdError INVALID_CONFIG if two policies can't be told apart
 */
export function policyReplacementText(before: RuleOptions, after: RuleOptions, name: string): string {
  const policy = after.policies.get(name);
  if (policy === undefined) return "";
  checkGroups(after.policies.keys());
  const table = `inet ${NFT_TABLE}`;
  const marker = `delete chain ${table} ${rulesMarker(before)}\nadd chain ${table} ${rulesMarker(after)}\n`;
  return `${policyChangeText(before.policies.get(name), policy)}${marker}`;
}

/** Removes both tables, whether or not they exist. */
export function removalText(): string {
  return (["inet", "arp"] as const)
    .map((family) => `add table ${family} ${NFT_TABLE}\ndelete table ${family} ${NFT_TABLE}\n`)
    .join("");
}

function staticText(options: RuleOptions, marker: string): string {
  const ours = `"${TAP_PREFIX}*"`;
  checkGroups(options.policies.keys());
  for (const prefix of options.subnets) checkPrefix(prefix);
  for (const prefix of options.subnets6) checkPrefix6(prefix);
  for (const server of options.dnsServers) checkAddress(server);
  for (const service of options.hostServices) checkService(service);
  const services = [
    ...options.hostServices,
    ...options.dnsServers.flatMap((address) =>
      (["tcp", "udp"] as const).map((protocol) => ({ address, protocol, port: 53 })),
    ),
  ].map(({ address, protocol, port }) => `${address} . ${protocol} . ${port}`);
  return `table inet ${NFT_TABLE} {
${(["guests", "back", "guests6", "back6", "egress"] as const).map(vmSetText).join("")}\
${constantSetText("dns_servers", "ipv4_addr", options.dnsServers)}\
${constantSetText("host_services", "ipv4_addr . inet_proto . inet_service", services)}\
${constantSetText("denied_destinations", "ipv4_addr", [...METADATA_RANGES, ...options.subnets], "flags interval; auto-merge; ")}\
${constantSetText("denied_destinations6", "ipv6_addr", [...METADATA_RANGES6, ...options.subnets6], "flags interval; auto-merge; ")}\
${[...options.policies.values()].map(policyText).join("")}\
${policyWaysText([...options.policies.keys()])}\
	chain ${marker} {
	}
	chain check_source {
		type filter hook prerouting priority raw; policy accept;
		iifname ${ours} goto from_vm_unchecked
	}
	chain from_vm_unchecked {
		udp sport { 67, 547 } drop
		icmp type redirect drop
		icmpv6 type { nd-router-advert, nd-redirect } drop
		ip daddr 127.0.0.0/8 drop
		ip hdrlength > 5 drop
		exthdr rt exists drop
		iifname . ether saddr . ip saddr @guests ${MARK_PASSED} accept
		iifname . ether saddr . ip6 saddr @guests6 ${MARK_PASSED} accept
		drop
	}
	chain to_host {
		type filter hook input priority filter; policy accept;
		iifname ${ours} goto from_vm_to_host
	}
	chain from_vm_to_host {
		ct state established ct direction reply accept
		ct state related meta l4proto { icmp, icmpv6 } jump from_vm_to_host_related
		icmpv6 type nd-neighbor-solicit ip6 hoplimit 255 accept
		jump by_sender
		icmp type echo-request fib daddr . iif type local accept
		icmpv6 type echo-request fib daddr . iif type local accept
		ip daddr . meta l4proto . th dport @host_services accept
		drop
	}
	chain from_vm_to_host_related {
		iifname . ct original ip saddr @back accept
		iifname . ct original ip daddr @back accept
		iifname . ct original ip6 saddr @back6 accept
		iifname . ct original ip6 daddr @back6 accept
		drop
	}
	chain through_host {
		type filter hook forward priority filter; policy accept;
		iifname ${ours} goto from_vm
		oifname ${ours} goto from_outside
	}
	chain from_vm {
		ct state invalid drop
		jump by_sender
		iifname . oifname @egress goto by_way_out
		drop
	}
	chain from_outside {
		ct state established,related goto answers
		drop
	}
	chain answers {
		jump by_receiver
		accept
	}
	chain check_destination {
		type filter hook postrouting priority filter; policy accept;
		oifname ${ours} goto to_vm
	}
	chain to_vm {
		oifname . ip daddr @back ${MARK_PASSED} accept
		oifname . ip6 daddr @back6 ${MARK_PASSED} accept
		drop
	}
${serviceChainsText(options.services)}\
${processChainText(options.processUsers)}\
${UNMARK_CHAINS}\
	chain translate {
		type nat hook postrouting priority srcnat; policy accept;
		iifname ${ours} oifname != ${ours} meta nfproto ipv4 masquerade
		iifname ${ours} oifname != ${ours} ip6 saddr ${LOCAL_RANGE6} masquerade
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

/** Before the chains of others, who may have published the same port. The TAPs let it through to the loopback (taps.ts). */
function serviceChainsText(services: readonly LocalService[]): string {
  if (services.length === 0) return "";
  for (const service of services) checkLocalService(service);
  const rules = services.flatMap((service) =>
    servicePorts(service).map(
      ({ protocol, port }) => `\t\t${protocol} dport ${port} dnat ip to ${service.address}:${service.port}\n`,
    ),
  );
  return `\tchain find_service {
		type nat hook prerouting priority dstnat - 1; policy accept;
		iifname "${TAP_PREFIX}*" ip daddr ${SERVICE_ADDRESS} goto to_service
		iifname "${TAP_PREFIX}*" meta nfproto ipv4 fib daddr . iif type local goto to_service
	}
	chain to_service {
${rules.join("")}\t}
`;
}

/** What a VM sends comes by its TAP; a hypervisor that opens a connection of its own is in somebody else's hands. */
function processChainText(users: RuleOptions["processUsers"]): string {
  if (users === undefined) return "";
  for (const user of [users.first, users.last]) checkCount("uid", user, 1);
  return `\tchain from_vm_processes {
		type filter hook output priority filter; policy accept;
		meta skuid ${users.first}-${users.last} drop
	}
`;
}

function vmSetText(name: VmSetName): string {
  const { types, counted } = definitionOf(name);
  return `\tset ${name} {\n\t\ttype ${types.join(" . ")};${counted ? " counter;" : ""}\n\t}\n`;
}

function policyWaysText(names: readonly string[]): string {
  const maps = (["senders", "receivers", "ways_out"] as const).map((map) => {
    const ways = names.map((name) => policyWays(name)[map]).join(", ");
    return `\tmap ${map} {\n\t\ttype devgroup : verdict;${ways && ` elements = { ${ways} }`}\n\t}\n`;
  });
  return `${maps.join("")}\
	chain by_sender {
		meta iifgroup vmap @senders
	}
	chain by_receiver {
		meta oifgroup vmap @receivers
	}
	chain by_way_out {
		meta iifgroup vmap @ways_out
	}
`;
}

function constantSetText(name: string, type: string, elements: readonly string[], flags = ""): string {
  const list = elements.length === 0 ? "" : ` elements = { ${[...new Set(elements)].join(", ")} }`;
  return `\tset ${name} {\n\t\ttype ${type}; ${flags}${list}\n\t}\n`;
}
