/** Looks at the host's interfaces and routes before VMs get theirs; changes nothing. */
import * as z from "zod";
import { FleetingdError } from "../errors.ts";
import { checkInterfaceName } from "./interface-name.ts";
import { ipList } from "./ip.ts";
import { type Ipv6Prefix, ipv6PrefixesOverlap, parseIpv6Prefix } from "./ipv6.ts";
import { isTapName, prefixesOverlap, type VmSubnet } from "./slots.ts";

/** A route as `ip -j route` prints it, as far as we read it. */
export interface HostRoute {
  /** `default`, a prefix or a single address. */
  dst: string;
  dev?: string | undefined;
  gateway?: string | undefined;
  /** Left out for an ordinary route. */
  type?: string | undefined;
  /** The lower, the better; 0 if it is left out. */
  metric?: number | undefined;
  /** The ways of a multipath route, which has no `dev` of its own. */
  nexthops?: { dev?: string | undefined }[] | undefined;
}

/** The way to the outside, or why there is none. */
export interface Egress {
  interface: string | undefined;
  /** Why VMs will not reach the outside, or not as one might expect; undefined if all is well. */
  problem: string | undefined;
}

const ROUTE = z.object({
  dst: z.string(),
  dev: z.string().optional(),
  gateway: z.string().optional(),
  type: z.string().optional(),
  metric: z.number().optional(),
  nexthops: z.array(z.object({ dev: z.string().optional() })).optional(),
});
const LINK = z.object({ ifname: z.string() });
const ADDRESS = z.object({
  ifname: z.string(),
  addr_info: z.array(z.object({ local: z.string().optional(), prefixlen: z.number().optional() })).optional(),
});

/**
 * The egress interface: `auto` is the one of the default route, anything else a name.
 * @throws FleetingdError INVALID_CONFIG if there is no interface of that name
 */
export async function resolveEgressInterface(setting: string): Promise<Egress> {
  const routes = await ipList(["-4", "route", "show", "default"], ROUTE);
  if (setting === "auto") {
    const found = defaultInterface(routes);
    const problem = "the host has no IPv4 default route, so VMs can't reach the outside";
    return { interface: found, problem: found === undefined ? problem : undefined };
  }
  const name = checkInterfaceName(setting);
  const links = (await ipList(["link", "show"], LINK)).map((link) => link.ifname);
  if (!links.includes(name)) {
    const others = links.filter((link) => link !== "lo" && !isTapName(link));
    throw new FleetingdError("INVALID_CONFIG", `the egress interface ${name} does not exist on this host`, {
      hint: `Set egress_interface to "auto" or one of: ${others.join(", ") || "(the host has none)"}.`,
    });
  }
  const used = defaultInterface(routes);
  const elsewhere =
    used === undefined
      ? "the host has no IPv4 default route"
      : `the host's default route leads through ${used}`;
  const problem = `${elsewhere}, so VMs reach through ${name} only what the host has a route for there`;
  return { interface: name, problem: used === name ? undefined : problem };
}

/** The interface of the best default route, which may be one of several ways of it. */
export function defaultInterface(routes: readonly HostRoute[]): string | undefined {
  const usable = routes.filter(({ dst, type }) => dst === "default" && (type ?? "unicast") === "unicast");
  const [best] = usable.sort((one, other) => (one.metric ?? 0) - (other.metric ?? 0));
  return best?.dev ?? best?.nexthops?.[0]?.dev;
}

/** The default route, also in the form 2000::/3. */
const SHORTEST_USED_LENGTH6 = 3;

/** A sentence that names the host's route or address that is inside or around the VM subnet; undefined if none is. */
export async function findSubnetOverlap(subnet: VmSubnet): Promise<string | undefined> {
  const [routes, links] = await Promise.all([
    ipList(["-4", "route", "show", "table", "all"], ROUTE),
    ipList(["-4", "address", "show"], ADDRESS),
  ]);
  const addresses = links.flatMap(({ ifname, addr_info = [] }) =>
    addr_info.flatMap(({ local, prefixlen }) =>
      local === undefined ? [] : [{ dst: `${local}/${prefixlen ?? 32}`, dev: ifname, type: "address" }],
    ),
  );
  return overlapOf(subnet, [...routes, ...addresses]);
}

/** The same for the IPv6 prefix of VMs. */
export async function findSubnetOverlap6(subnet: Ipv6Prefix): Promise<string | undefined> {
  const routes = await ipList(["-6", "route", "show", "table", "all"], ROUTE);
  const route = routes.find(({ dst, dev, type }) => {
    if (!dst.includes(":") || (dev !== undefined && isTapName(dev))) return false;
    // What is routed to this host may be kept from loops by a route to nowhere; that is no network in use.
    if (["unreachable", "blackhole", "prohibit"].includes(type ?? "")) return false;
    const prefix = parseIpv6Prefix(dst.includes("/") ? dst : `${dst}/128`);
    return prefix.length > SHORTEST_USED_LENGTH6 && ipv6PrefixesOverlap(subnet, prefix);
  });
  if (route === undefined) return undefined;
  const { dst, dev } = route;
  return `the VM subnet ${subnet.cidr} overlaps the host's route ${dst}${dev === undefined ? "" : ` on ${dev}`}`;
}

/** The pure part of `findSubnetOverlap`; an address counts as a route of type `address`. */
export function overlapOf(subnet: VmSubnet, routes: readonly HostRoute[]): string | undefined {
  const route = routes.find(
    ({ dst, dev }) =>
      // The last attachment's own routes are no reason to refuse the next.
      !(dev !== undefined && isTapName(dev)) &&
      !isDefaultRoute(dst) &&
      prefixesOverlap(subnet.cidr, dst.includes("/") ? dst : `${dst}/32`),
  );
  if (route === undefined) return undefined;
  const { dst, type = "unicast", dev, gateway } = route;
  const what = type === "address" ? "address" : type === "unicast" ? "route" : `route (${type})`;
  const way = [gateway && `via ${gateway}`, dev && `on ${dev}`].filter(Boolean).join(" ");
  return `the VM subnet ${subnet.cidr} overlaps the host's ${what} ${dst}${way === "" ? "" : ` ${way}`}`;
}

// A VPN often writes its default route as two halves, 0.0.0.0/1 and 128.0.0.0/1.
function isDefaultRoute(dst: string): boolean {
  return dst === "default" || /\/[01]$/.test(dst);
}
