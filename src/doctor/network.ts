/** Whether VMs get to the outside: interface, forwarding, other firewalls, resolvers. */
import { Resolver } from "node:dns/promises";
import { access, constants } from "node:fs/promises";
import { join } from "node:path";
import type { Config, PoolConfig } from "../config/types.ts";
import { usesHost } from "../daemon/host-checks.ts";
import { servicesOf } from "../daemon/pool-policy.ts";
import { FleetingdError, messageOf, systemErrorCode } from "../errors.ts";
import { readTextIfExists } from "../host/files.ts";
import { readConnectionTable } from "../network/conntrack.ts";
import { detectForeignFirewalls } from "../network/foreign-firewalls.ts";
import { resolveEgressInterface } from "../network/host-check.ts";
import { hostResolvers } from "../network/resolvers.ts";
import { IPV4_SETTINGS } from "../network/sysctl.ts";
import { type Check, type Finding, fail, failure, ok, warn } from "./finding.ts";

const DNS_TIMEOUT_MS = 2_000;
const NEARLY_FULL = 0.8;
const STRICT = 1;

export function networkChecks({ pools, services }: Config): Check[] {
  const all = Object.values(pools).filter(usesHost);
  const egress = [...new Set(all.map(({ egressInterface }) => egressInterface))];
  const subnets = new Map(all.map(({ subnet }) => [subnet.cidr, subnet]));
  const servers = [...new Set(all.flatMap(({ dnsServers }) => dnsServers))];
  const asksService = (pool: PoolConfig): boolean =>
    servicesOf(pool, services).some(({ name }) => name === "dns");
  const usesHosts =
    all.length === 0 || all.some((pool) => pool.dnsServers.length === 0 && !asksService(pool));
  return [
    ...(egress.length === 0 ? ["auto"] : egress).map((setting) => ({
      area: "egress",
      look: () => egressInterface(setting),
    })),
    {
      area: "firewalls",
      look: async () => {
        const advice = (await Promise.all([...subnets.values()].map(detectForeignFirewalls))).flat();
        if (advice.length === 0) return [ok("no other firewall stands in the way of VMs")];
        return [...new Set(advice)].map((text) => splitAdvice(text));
      },
    },
    { area: "connections", look: connections },
    { area: "resolvers", look: () => resolvers(servers, usesHosts) },
  ];
}

/** What it is, and what to do. */
function splitAdvice(text: string): Finding {
  const at = /\. (Run|Add) `/.exec(text)?.index;
  return at === undefined
    ? warn(text, "Let VMs' traffic through there.")
    : warn(text.slice(0, at), text.slice(at + 2));
}

async function egressInterface(setting: string): Promise<Finding[]> {
  try {
    const { interface: name, problem } = await resolveEgressInterface(setting);
    if (name === undefined)
      return [
        warn(problem ?? "there is no way to the outside", "Add a default route, or set egress_interface."),
      ];
    const findings =
      problem === undefined
        ? [ok(`VMs reach the outside through ${name}`)]
        : [warn(problem, "Set egress_interface to the one of the default route, or route through this one.")];
    return [...findings, ...(await forwarding(name)), ...(await reversePath(name))];
  } catch (error) {
    if (!(error instanceof FleetingdError)) throw error;
    return [failure(error, "Set egress_interface to an interface of this host.")];
  }
}

/** The daemon switches it on for this interface; all that can stand against it is that it may not. */
async function forwarding(name: string): Promise<Finding[]> {
  const path = join(IPV4_SETTINGS, name, "forwarding");
  if ((await readTextIfExists(path))?.trim() === "1") return [ok(`${name} forwards IPv4`)];
  try {
    await access(path, constants.W_OK);
    return [ok(`${name} does not forward IPv4 yet; the daemon switches that on for it`)];
  } catch (error) {
    return [
      fail(
        `${name} does not forward IPv4, and that can't be switched here (${systemErrorCode(error) ?? messageOf(error)})`,
        "Run this as root; in a container, /proc/sys/net has to be writable.",
      ),
    ];
  }
}

/** Strict: what comes in by another interface than answers would go out by is dropped. */
async function reversePath(name: string): Promise<Finding[]> {
  const values = await Promise.all(
    ["all", name].map(async (one) => Number(await readTextIfExists(join(IPV4_SETTINGS, one, "rp_filter")))),
  );
  const { interface: ofDefault } = await resolveEgressInterface("auto");
  if (Math.max(...values) !== STRICT || ofDefault === name) return [];
  return [
    warn(
      `${name} drops answers that the host would not send its own packets to by the same way (rp_filter = 1), and its default route leads elsewhere`,
      `Run \`sysctl -w net.ipv4.conf.${name}.rp_filter=2\`, and make it permanent in /etc/sysctl.d.`,
    ),
  ];
}

async function connections(): Promise<Finding[]> {
  const table = readConnectionTable();
  if (table === undefined) return [];
  const text = `the host follows ${table.entries} of the ${table.limit} connections that it can`;
  if (table.entries < NEARLY_FULL * table.limit) return [ok(text)];
  return [
    warn(
      text,
      `Run \`sysctl -w net.netfilter.nf_conntrack_max=${4 * table.limit}\`, or set max_connections in the pools.`,
    ),
  ];
}

async function resolvers(configured: readonly string[], usesHosts: boolean): Promise<Finding[]> {
  const host = await hostResolvers();
  const servers = [...new Set([...configured, ...(usesHosts ? host.servers : [])])];
  const findings: Finding[] = [];
  if (usesHosts && host.source === "fallback")
    findings.push(
      warn(
        `the host's own resolvers can't be reached from VMs, so they are told to use ${host.servers.join(" and ")}`,
        "Set dns_servers in the pools.",
      ),
    );
  return [...findings, ...(await Promise.all(servers.map(askResolver)))];
}

/** Any answer is one: whether it knows the name is not the question. */
async function askResolver(server: string): Promise<Finding> {
  const resolver = new Resolver({ timeout: DNS_TIMEOUT_MS, tries: 1 });
  resolver.setServers([server]);
  try {
    await resolver.resolve4("localhost.");
  } catch (error) {
    const code = systemErrorCode(error) ?? "";
    if (["ETIMEOUT", "ECONNREFUSED", "ECANCELLED", "ENETUNREACH", "EHOSTUNREACH"].includes(code))
      return warn(
        `the resolver ${server} does not answer (${code})`,
        "Set dns_servers to resolvers that do.",
      );
  }
  return ok(`the resolver ${server} answers`);
}
