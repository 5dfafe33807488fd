/** The keys of `[pools.<name>]` that are about the network. */
import * as z from "zod";
import { DEFAULT_POLICY } from "../network/policy.ts";
import { SERVICE_NAMES } from "../network/services.ts";
import { key } from "./key.ts";
import {
  dnsServer,
  egressAllowed,
  egressDenied,
  hostService,
  interfaceName,
  vmSubnet,
  vmSubnet6,
} from "./values.ts";

const MOST_MBIT = 10_000;

export const network = {
  egress_interface: key(interfaceName.prefault("auto"), {
    meaning:
      "The host's interface that the VMs reach the outside through. `auto` is the one that has the default route.",
    example: "eth0",
  }),
  vm_subnet: key(vmSubnet.prefault("172.16.120.0/24"), {
    meaning:
      "The IPv4 prefix that VMs get their addresses from, four addresses each. It must not overlap any network that " +
      'the host can reach. The short form `"172.16.120."` means the /24.',
    example: "10.99.0.0/20",
  }),
  dns_servers: key(z.array(dnsServer).max(8).default([]), {
    meaning: "Resolvers of the VMs, IPv4 addresses. An empty list means those of the host.",
    example: ["9.9.9.9", "1.1.1.1"],
  }),
  vm_subnet6: key(vmSubnet6.optional(), {
    meaning:
      "The IPv6 prefix that VMs get their addresses from, four addresses each: one of `fd00::/8`, which is translated to " +
      "the host's address, or one that is routed to this host. Pools that share `vm_subnet` share it, too.",
    example: "fd12:3456:789a::/64",
    defaultText: "no IPv6",
  }),
};

/** These take effect for VMs that run as soon as the configuration is loaded again. */
export const policy = {
  egress: key(z.enum(["all", "none"]).default("all"), {
    meaning:
      "Whether VMs reach the outside. `none` leaves what `egress_allow` names, and nothing else: resolvers have to be " +
      "named there, too. The VM that makes the golden image is not restricted.",
    example: "none",
  }),
  egress_deny: key(z.array(egressDenied).max(256).default([]), {
    meaning:
      "Prefixes, IPv4 or IPv6, that VMs don't reach although `egress` is `all`, but for their resolvers. `private` is " +
      "all private networks: RFC 1918, carrier-grade NAT (`100.64.0.0/10`) and `fc00::/7`.",
    example: ["private", "198.51.100.0/24"],
  }),
  egress_allow: key(z.array(egressAllowed).max(256).default([]), {
    meaning:
      "What VMs reach although `egress_deny` or `egress` forbids it: a prefix, or a prefix and a port or range of ports. " +
      "Not link-local and metadata addresses, nor other VMs.",
    example: ["10.1.2.0/24", "192.168.7.10 tcp/443"],
  }),
  host_services: key(z.array(hostService).max(64).default([]), {
    meaning:
      "Ports of the host that VMs may use, at the address of their gateway: a registry mirror, a cache.",
    example: ["tcp/5000"],
  }),
  services: key(z.array(z.enum(SERVICE_NAMES)).optional(), {
    kind: 'list of `"dns"`, `"registry_mirror"` and `"package_cache"`',
    meaning:
      "Which of the host's `[services]` VMs may use. What golden images are made with follows at the daemon's next restart.",
    example: ["package_cache"],
    defaultText: 'all of them; none if `egress` is `"none"`',
  }),
  bandwidth_up_mbit: key(z.int().min(0).max(MOST_MBIT).default(0), {
    meaning: "How fast each VM may send. 0 is unlimited.",
    unit: "Mbit/s",
    example: 200,
  }),
  bandwidth_down_mbit: key(z.int().min(0).max(MOST_MBIT).default(0), {
    meaning: "How fast each VM may receive from the outside. 0 is unlimited.",
    unit: "Mbit/s",
    example: 500,
  }),
  max_connections: key(z.int().min(16).max(1_000_000).default(DEFAULT_POLICY.maxConnections), {
    meaning:
      "How many connections each VM may have open. The host's kernel has one table of them for all (`nf_conntrack_max`).",
    unit: "connections",
    example: 16384,
  }),
  max_new_connections_per_second: key(
    z.int().min(1).max(100_000).default(DEFAULT_POLICY.newConnectionsPerSecond),
    {
      meaning: "How many connections each VM may open per second; four times as many at once.",
      unit: "connections",
      example: 2000,
    },
  ),
};
