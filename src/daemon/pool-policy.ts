/** What a pool's configuration says of the network, as the fabric takes it. */
import type { PoolConfig } from "../config/types.ts";
import { type Policy, PRIVATE, PRIVATE_PREFIXES } from "../network/policy.ts";
import { type LocalService, SERVICE_NAMES } from "../network/services.ts";

/** Keys of a pool that its policy is made of, which changes while its VMs run. */
export const POLICY_FIELDS = [
  "egress",
  "egressDeny",
  "egressAllow",
  "hostServices",
  "services",
  "bandwidthUpMbit",
  "bandwidthDownMbit",
  "maxConnections",
  "newConnectionsPerSecond",
] as const satisfies readonly (keyof PoolConfig)[];

const BYTES_PER_MBIT = 125_000;

/** Those of the host that the pool's VMs may use. */
export function servicesOf(pool: PoolConfig, known: readonly LocalService[]): readonly LocalService[] {
  const wanted = pool.services ?? (pool.egress === "none" ? [] : SERVICE_NAMES);
  return known.filter((service) => wanted.includes(service.name));
}

export function policyOf(name: string, pool: PoolConfig, services: readonly LocalService[]): Policy {
  const { egress, hostServices, maxConnections, newConnectionsPerSecond } = pool;
  return {
    name,
    egress,
    hostServices,
    services: servicesOf(pool, services),
    maxConnections,
    newConnectionsPerSecond,
    deny: pool.egressDeny.flatMap((prefix) => (prefix === PRIVATE ? PRIVATE_PREFIXES : prefix)),
    allow: pool.egressAllow,
    upBytesPerSecond: pool.bandwidthUpMbit * BYTES_PER_MBIT,
    downBytesPerSecond: pool.bandwidthDownMbit * BYTES_PER_MBIT,
  };
}
