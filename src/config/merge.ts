/** Several files as one: tables are merged, everything else is replaced by the file that comes later. */
import type { TomlTable } from "./toml.ts";

export function mergeTables(earlier: TomlTable, later: TomlTable): TomlTable {
  const entries = new Map(earlier.entries);
  for (const [key, node] of later.entries) {
    const known = entries.get(key);
    const both = known?.kind === "table" && node.kind === "table";
    entries.set(key, both ? mergeTables(known, node) : node);
  }
  return { kind: "table", entries, at: later.at };
}
