/** The keys of `[sources.<name>]`: which there are depends on `type`. */

import type { Finding } from "./explain.ts";
import { incusTable, toIncusConfig } from "./incus-keys.ts";
import { libvirtTable, toLibvirtConfig } from "./libvirt-keys.ts";
import { openstackTable, toOpenStackConfig } from "./openstack-keys.ts";
import { deepFreeze } from "./rename.ts";
import { readTyped } from "./typed-table.ts";
import type { SourceConfig } from "./types.ts";
import { toVcdConfig, vcdTable } from "./vcd-keys.ts";

export const sourceTables = {
  incus: incusTable,
  libvirt: libvirtTable,
  openstack: openstackTable,
  vcd: vcdTable,
} as const;
export type SourceType = keyof typeof sourceTables;

/** The source that a table means, or all that is wrong with it. */
export function readSource(input: unknown): { source: SourceConfig } | { findings: Finding[] } {
  const result = readTyped(sourceTables, input, { what: "sources" });
  if ("findings" in result) return result;
  return { source: deepFreeze(toSourceConfig(result.table)) };
}

type SourceTable =
  | Parameters<typeof toIncusConfig>[0]
  | Parameters<typeof toLibvirtConfig>[0]
  | Parameters<typeof toOpenStackConfig>[0]
  | Parameters<typeof toVcdConfig>[0];

function toSourceConfig(table: SourceTable): SourceConfig {
  switch (table.type) {
    case "incus":
      return toIncusConfig(table);
    case "libvirt":
      return toLibvirtConfig(table);
    case "openstack":
      return toOpenStackConfig(table);
    case "vcd":
      return toVcdConfig(table);
  }
}
