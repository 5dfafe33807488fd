/** Instances as a table. */
import type { InstanceStatus } from "../api/status.ts";
import { conditionOf, formatAge, printable } from "../api/text.ts";
import { formatTable } from "./format.ts";

export function renderInstances(instances: readonly InstanceStatus[]): string[] {
  if (instances.length === 0) return ["No instances."];
  const headings = ["INSTANCE", "POOL", "STATE", "AGE", "ADDRESS", "GROUP", "ERROR"];
  const rows = instances.map((instance) => [
    instance.id,
    instance.pool,
    conditionOf(instance),
    formatAge(instance.ageSeconds),
    instance.address ?? "-",
    instance.group ?? "-",
    printable(instance.lastError ?? "") + retry(instance),
  ]);
  return formatTable(headings, rows);
}

function retry({ failures, retryInSeconds }: InstanceStatus): string {
  return failures === 0 ? "" : ` (${failures} failed, next try in ${retryInSeconds} s)`;
}
