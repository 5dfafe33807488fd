/** What records tell of pools: those that are configured no more, and where each has instances. */
import { dirname } from "node:path";
import { poolTable, toPoolConfig } from "../config/pool-keys.ts";
import type { Config, PoolConfig } from "../config/types.ts";
import { PRIVATE } from "../network/policy.ts";
import type { InstanceRecord } from "../pool/instance.ts";
import { parseLocalData } from "../sources/local/vm.ts";
import { LOCAL, type SourceData, sourceOf } from "../sources/source.ts";

/** Where each pool has instances, by its name. */
export function sourcesInUse(records: readonly InstanceRecord[]): Map<string, string[]> {
  const used = new Map<string, string[]>();
  for (const { pool, data } of records) {
    const known = used.get(pool) ?? [];
    if (Object.keys(data).length > 0 && !known.includes(sourceOf(data))) known.push(sourceOf(data));
    used.set(pool, known);
  }
  return used;
}

/**
 * A pool by what one of its VMs' records says of it; whatever is needed only to make VMs is the default. Undefined if nothing
 * is known any more of where its instances are.
 */
export function forgottenPool(id: string, record: SourceData, known: Config): PoolConfig | undefined {
  const source = sourceOf(record);
  if (source !== LOCAL && known.sources[source] === undefined) return undefined;
  const data = parseLocalData(id, record);
  return toPoolConfig(
    poolTable.parse({
      warm_instances: 0,
      sources: [source],
      // What it was allowed is not known any more; most jobs get along with this.
      egress_deny: [PRIVATE],
      ...(data && { vm_subnet: data.subnet, vm_disk_directory: dirname(dirname(data.cloneDirectory)) }),
    }),
    known.sources,
  );
}
