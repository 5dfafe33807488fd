/** What a pool's keys must be to each other; each key by itself is the schema's business. */
import { slotCount6 } from "../network/slots.ts";
import { describeValue, explain, type Finding, nearest } from "./explain.ts";
import { largestPool, type PoolTable, poolTable } from "./pool-keys.ts";

/** Reads a table of pool keys, each by itself; what is missing gets its default. */
export function readPool(input: unknown): { table: PoolTable } | { findings: Finding[] } {
  const result = poolTable.safeParse(input);
  if (result.success) return { table: result.data };
  return { findings: explain(result.error.issues, input, Object.keys(poolTable.shape)) };
}

/**
 * What is wrong between the keys of one pool.
 * @param knownImages Names of images, or undefined if not all of them are known.
 */
export function checkPool(table: PoolTable, knownImages: readonly string[] | undefined): Finding[] {
  return [...checkSizes(table), ...checkImage(table, knownImages)];
}

function checkSizes(table: PoolTable): Finding[] {
  const most = largestPool(table);
  const { cidr } = table.vm_subnet;
  if (most < 1) {
    const text = `${cidr} has room for one VM only, and that is the prebuild's; use a /29 or a larger prefix`;
    return [{ path: ["vm_subnet"], text }];
  }
  const findings: Finding[] = [];
  const six = table.vm_subnet6;
  if (six !== undefined && slotCount6(six) < table.vm_subnet.slotCount) {
    const text = `${six.cidr} has room for ${slotCount6(six)} VMs, fewer than the vm_subnet ${cidr}; use a shorter prefix, a /64 for example`;
    findings.push({ path: ["vm_subnet6"], text });
  }
  const max = table.max_instances ?? most;
  if (max > most) {
    const text = `${max} VMs have no room in the vm_subnet ${cidr}: it has addresses for ${most}, and one more for the prebuild; lower max_instances or use a larger prefix`;
    findings.push({ path: ["max_instances"], text });
  }
  if (table.warm_instances > max) {
    const origin = table.max_instances === undefined ? ` (what the vm_subnet ${cidr} has room for)` : "";
    const text = `${table.warm_instances} is more than max_instances, which is ${max}${origin}; lower it or raise max_instances`;
    findings.push({ path: ["warm_instances"], text });
  }
  return findings;
}

function checkImage(table: PoolTable, known: readonly string[] | undefined): Finding[] {
  if (known === undefined || known.includes(table.image)) return [];
  const text = `there is no image ${describeValue(table.image)} in [images]; ${nearest(table.image, known)}`;
  return [{ path: ["image"], text }];
}
