/** What a pool's configuration says of the network, as the fabric takes it. */
import type { PoolConfig } from "../config/types.ts";
import { type Policy, PRIVATE, PRIVATE_PREFIXES } from "../network/policy.ts";

/** Keys of a pool that its policy is made of, which changes while its VMs run. */
export const POLICY_FIELDS = [
  "egress",
  "egressDeny",
  "egressAllow",
  "hostServices",
  "bandwidthUpMbit",
  "bandwidthDownMbit",
  "maxConnections",
  "newConnectionsPerSecond",
] as const satisfies readonly (keyof PoolConfig)[];

const BYTES_PER_MBIT = 125_000;

export function policyOf(name: string, pool: PoolConfig): Policy {
  const { egress, hostServices, maxConnections, newConnectionsPerSecond } = pool;
  return {
    name,
    egress,
    hostServices,
    maxConnections,
    newConnectionsPerSecond,
    deny: pool.egressDeny.flatMap((prefix) => (prefix === PRIVATE ? PRIVATE_PREFIXES : prefix)),
    allow: pool.egressAllow,
    upBytesPerSecond: pool.bandwidthUpMbit * BYTES_PER_MBIT,
    downBytesPerSecond: pool.bandwidthDownMbit * BYTES_PER_MBIT,
  };
}
