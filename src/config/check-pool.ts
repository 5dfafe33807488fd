/** What a pool's keys must be to each other; each key by itself is the schema's business. */
import { slotCount6 } from "../network/slots.ts";
import { LOCAL } from "../sources/source.ts";
import { describeValue, explain, type Finding, nearest } from "./explain.ts";
import { defaultMaximum, largestPool, type PoolTable, poolTable } from "./pool-keys.ts";
import type { Config } from "./types.ts";

/** Reads a table of pool keys, each by itself; what is missing gets its default. */
export function readPool(input: unknown): { table: PoolTable } | { findings: Finding[] } {
  const result = poolTable.safeParse(input);
  if (result.success) return { table: result.data };
  return { findings: explain(result.error.issues, input, Object.keys(poolTable.shape)) };
}

/** What the rest of the configuration has; undefined where not all of it is known. */
export interface KnownNames {
  images: readonly string[] | undefined;
  sources: Config["sources"];
  /** Sections that there are, the broken ones included. */
  sourceNames: readonly string[] | undefined;
}

/** What is wrong between the keys of one pool. */
export function checkPool(table: PoolTable, known: KnownNames): Finding[] {
  return [
    ...checkSources(table, known),
    ...checkSizes(table, known.sources),
    ...checkImage(table, known.images),
    ...checkCloneMode(table),
  ];
}

function checkCloneMode(table: PoolTable): Finding[] {
  if (table.clone_mode !== "snapshot" || table.boot_profile === "fast") return [];
  const text =
    'a snapshot needs the guest part that only images with boot_profile = "fast" have; use clone_mode = "auto" or that profile';
  return [{ path: ["clone_mode"], text }];
}

function checkSources(table: PoolTable, { sourceNames }: KnownNames): Finding[] {
  const names = table.sources.map(({ source }) => source);
  const choices = [LOCAL, ...(sourceNames ?? [])];
  return names.flatMap((source, index): Finding[] => {
    const path = ["sources", index];
    if (names.indexOf(source) < index) {
      return [{ path, text: `${describeValue(source)} is in the list already; name each source once` }];
    }
    if (sourceNames === undefined || choices.includes(source)) return [];
    const text = `there is no section [sources.${source}]; ${nearest(source, choices)}`;
    return [{ path, text }];
  });
}

function checkSizes(table: PoolTable, known: Config["sources"]): Finding[] {
  const max = table.max_instances ?? defaultMaximum(table, known);
  const findings = checkSubnet(table);
  if (max > 0 && table.warm_instances > max) {
    const origin = table.max_instances === undefined ? ` (${whatMaximum(table)})` : "";
    const text = `${table.warm_instances} is more than max_instances, which is ${max}${origin}; lower it or raise max_instances`;
    findings.push({ path: ["warm_instances"], text });
  }
  const shares = table.sources.reduce((sum, { warm_instances = 0 }) => sum + warm_instances, 0);
  if (shares > table.warm_instances) {
    const text = `the sources' shares (warm_instances) add up to ${shares}, more than the pool's ${table.warm_instances}; lower them or raise warm_instances`;
    findings.push({ path: ["sources"], text });
  }
  return findings;
}

function whatMaximum(table: PoolTable): string {
  const isLocal = table.sources.every(({ source }) => source === LOCAL);
  return isLocal
    ? `what the vm_subnet ${table.vm_subnet.cidr} has room for`
    : "what its sources may have together";
}

/** Whether this host's share of the pool has room in the subnet. */
function checkSubnet(table: PoolTable): Finding[] {
  const local = table.sources.find(({ source }) => source === LOCAL);
  if (local === undefined) return [];
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
  // Of several sources this host need not have all instances.
  const isOnly = table.sources.length === 1;
  const max = local.max_instances ?? (isOnly ? table.max_instances : undefined) ?? most;
  if (max > most) {
    const text = `${max} VMs have no room in the vm_subnet ${cidr}: it has addresses for ${most}, and one more for the prebuild; lower max_instances or use a larger prefix`;
    findings.push({ path: local.max_instances === undefined ? ["max_instances"] : ["sources"], text });
  }
  return findings;
}

function checkImage(table: PoolTable, known: readonly string[] | undefined): Finding[] {
  if (known === undefined || known.includes(table.image)) return [];
  const text = `there is no image ${describeValue(table.image)} in [images]; ${nearest(table.image, known)}`;
  return [{ path: ["image"], text }];
}
