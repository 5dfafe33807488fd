/**
 * Other people's firewalls that would drop what our rules let through: a packet has to pass every table. They are
 * only looked at; what to do is said to the operator.
 */
import { findProgram, readTextIfExists } from "../host/files.ts";
import { run } from "../host/run.ts";
import { listJson, listText } from "./nft.ts";
import { NFT_TABLE } from "./nft-elements.ts";
import { TAP_PREFIX, type VmSubnet } from "./slots.ts";

/** A chain as nft lists it, as far as we read it. */
export interface ForeignChain {
  family: string;
  table: string;
  name: string;
  /** Left out for a chain that is only jumped to. */
  hook?: string | undefined;
  policy?: string | undefined;
}

/**
 * Some sentences for each firewall that keeps VMs from the outside: what it does and how to let VMs through.
 * A table that mentions our TAPs or the subnet is taken to be in order.
 */
export async function detectForeignFirewalls(subnet: VmSubnet): Promise<string[]> {
  const chains = (await listJson(["chains"])).flatMap(({ chain }) => (chain === undefined ? [] : [chain]));
  const all = [...chains, ...(await legacyForwardChain(subnet))].filter(isForeign);
  const suspects = all.filter(
    ({ hook, policy, table }) => (hook === "forward" && policy === "drop") || table === "firewalld",
  );
  const inOrder = new Set<string>();
  for (const { family, table } of suspects) {
    if (table === LEGACY_TABLE || inOrder.has(tableKey({ family, table }))) continue;
    if (mentionsUs(await listText(["table", family, table]), subnet))
      inOrder.add(tableKey({ family, table }));
  }
  return firewallAdvice(
    all.filter((chain) => !inOrder.has(tableKey(chain))),
    subnet,
  );
}

/** The pure part of `detectForeignFirewalls`, for chains that don't mention us. */
export function firewallAdvice(chains: readonly ForeignChain[], subnet: VmSubnet): string[] {
  const foreign = chains.filter(isForeign);
  const hasChain = (chain: string): boolean => foreign.some(({ name }) => name === chain);
  const advice = foreign.some(({ table }) => table === "firewalld") ? [firewalldAdvice(subnet)] : [];
  const dropping = foreign.filter(({ hook, policy }) => hook === "forward" && policy === "drop");
  for (const chain of dropping) {
    if (chain.table === "firewalld") continue;
    if (chain.name !== "FORWARD" || chain.family !== "ip") advice.push(nftablesAdvice(chain));
    else if (hasChain("ufw-user-forward")) advice.push(ufwAdvice(subnet));
    else advice.push(iptablesAdvice(chain, hasChain("DOCKER-USER")));
  }
  return advice;
}

function firewalldAdvice(subnet: VmSubnet): string {
  return (
    "firewalld is active and rejects forwarded traffic that no zone allows, so VMs may not reach the outside. " +
    `Run \`firewall-cmd --permanent --zone=trusted --add-source=${subnet.cidr}\` and then \`firewall-cmd --reload\`; ` +
    "fleetingd's own rules still keep VMs from the host."
  );
}

function ufwAdvice(subnet: VmSubnet): string {
  return `ufw is active and drops forwarded traffic, so VMs can't reach the outside. Run \`ufw route allow from ${subnet.cidr}\`.`;
}

function iptablesAdvice({ table }: ForeignChain, docker: boolean): string {
  const cause = docker
    ? "Docker has set the policy of iptables' FORWARD chain to DROP"
    : "The policy of iptables' FORWARD chain is DROP";
  const insert = `${table === LEGACY_TABLE ? "iptables-legacy" : "iptables"} -I ${docker ? "DOCKER-USER" : "FORWARD"}`;
  return (
    `${cause}, so VMs can't reach the outside. Run \`${insert} -i ${TAP_PREFIX}+ -j ACCEPT\` and ` +
    `\`${insert} -o ${TAP_PREFIX}+ -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\`, and make both permanent.`
  );
}

function nftablesAdvice({ family, table, name }: ForeignChain): string {
  return (
    `The nftables chain \`${family} ${table} ${name}\` drops forwarded traffic by default, so VMs can't reach the ` +
    `outside. Add \`iifname "${TAP_PREFIX}*" accept\` and \`oifname "${TAP_PREFIX}*" ct state established,related accept\` to it.`
  );
}

const LEGACY_TABLE = "filter (legacy)";

/** The FORWARD chain of the old iptables, which nft does not see; none if it is not in use or in order. */
async function legacyForwardChain(subnet: VmSubnet): Promise<ForeignChain[]> {
  // Only where the table is in use already: merely asking would load it.
  const tables = (await readTextIfExists("/proc/net/ip_tables_names")) ?? "";
  const program = await findProgram("iptables-legacy");
  if (program === undefined || !tables.split("\n").includes("filter")) return [];
  const { stdout } = await run(program, ["-S"]);
  const policy = /^-P FORWARD (\w+)/m.exec(stdout)?.[1]?.toLowerCase();
  if (policy === undefined || mentionsUs(stdout, subnet)) return [];
  const docker = /^-N DOCKER-USER$/m.test(stdout) ? ["DOCKER-USER"] : [];
  return [
    { family: "ip", table: LEGACY_TABLE, name: "FORWARD", hook: "forward", policy },
    ...docker.map((name) => ({ family: "ip", table: LEGACY_TABLE, name })),
  ];
}

function mentionsUs(rules: string, subnet: VmSubnet): boolean {
  return rules.includes(TAP_PREFIX) || rules.includes(subnet.cidr);
}

function isForeign({ family, table }: ForeignChain): boolean {
  return table !== NFT_TABLE && (family === "ip" || family === "inet");
}

function tableKey({ family, table }: { family: string; table: string }): string {
  return `${family} ${table}`;
}
