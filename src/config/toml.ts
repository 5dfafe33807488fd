/** TOML text to a tree whose every node knows where it stands, so that an error can say file and line. */
import { type AST, ParseError, parseTOML } from "toml-eslint-parser";

export interface Position {
  file: string;
  /** Counted from 1. */
  line: number;
}

export type TomlNode = TomlTable | TomlArray | TomlScalar;
export interface TomlTable {
  kind: "table";
  entries: Map<string, TomlNode>;
  at: Position;
}
interface TomlArray {
  kind: "array";
  items: TomlNode[];
  at: Position;
}
interface TomlScalar {
  kind: "scalar";
  value: string | number | boolean | Date;
  at: Position;
}

export type TomlResult = { table: TomlTable } | { syntaxError: string; at: Position };

/** Reads one file's text; a syntax error is a result, for the other files are still to be checked. */
export function readToml(file: string, text: string): TomlResult {
  try {
    const [top] = parseTOML(text).body;
    const root: TomlTable = { kind: "table", entries: new Map(), at: { file, line: 1 } };
    for (const node of top.body) {
      if (node.type === "TOMLKeyValue") addKeyValue(root, node, file);
      else fillTable(root, node, file);
    }
    return { table: root };
  } catch (error) {
    if (!(error instanceof ParseError)) throw error;
    const shown = text.split("\n")[error.lineNumber - 1]?.trim() ?? "";
    const where = shown === "" ? "at the end of what comes before" : `in \`${shown.slice(0, 80)}\``;
    return { syntaxError: `${error.message} (${where})`, at: { file, line: error.lineNumber } };
  }
}

/** The plain value: tables become objects without a prototype, so that no key means anything special. */
export function plainValue(node: TomlNode): unknown {
  switch (node.kind) {
    case "scalar":
      return node.value;
    case "array":
      return node.items.map(plainValue);
    case "table": {
      const object: Record<string, unknown> = Object.create(null);
      for (const [key, child] of node.entries) object[key] = plainValue(child);
      return object;
    }
  }
}

/** Where the node at `path` stands, or the nearest one above it. */
export function locate(root: TomlNode, path: readonly PropertyKey[]): Position {
  let node = root;
  for (const step of path) {
    const next =
      node.kind === "table"
        ? node.entries.get(String(step))
        : node.kind === "array"
          ? node.items[Number(step)]
          : undefined;
    if (next === undefined) break;
    node = next;
  }
  return node.at;
}

function fillTable(root: TomlTable, node: AST.TOMLTable, file: string): void {
  const at = { file, line: node.loc.start.line };
  const isArray = node.kind === "array";
  const table = descend(root, node.resolvedKey, at);
  // A table may be opened first by a deeper header; its own header is where people look for it.
  if (!isArray) table.at = at;
  for (const entry of node.body) addKeyValue(table, entry, file);
}

function addKeyValue(table: TomlTable, node: AST.TOMLKeyValue, file: string): void {
  const at = { file, line: node.loc.start.line };
  const names = node.key.keys.map((key) => (key.type === "TOMLBare" ? key.name : key.value));
  const parent = descend(table, names.slice(0, -1), at);
  const value = convert(node.value, file);
  parent.entries.set(names.at(-1) ?? "", value.kind === "array" ? { ...value, at } : value);
}

/** The table at `path` below `root`, made where it is missing; a number is an index into an array of tables. */
function descend(root: TomlTable, path: readonly (string | number)[], at: Position): TomlTable {
  let table = root;
  path.forEach((step, index) => {
    if (typeof step === "number") return;
    const position = path[index + 1];
    if (typeof position === "number") {
      const known = table.entries.get(step);
      const array: TomlArray = known?.kind === "array" ? known : { kind: "array", items: [], at };
      table.entries.set(step, array);
      const item = array.items[position];
      table = item?.kind === "table" ? item : { kind: "table", entries: new Map(), at };
      array.items[position] = table;
      return;
    }
    const known = table.entries.get(step);
    const next: TomlTable = known?.kind === "table" ? known : { kind: "table", entries: new Map(), at };
    table.entries.set(step, next);
    table = next;
  });
  return table;
}

function convert(node: AST.TOMLContentNode, file: string): TomlNode {
  const at = { file, line: node.loc.start.line };
  switch (node.type) {
    case "TOMLArray":
      return { kind: "array", items: node.elements.map((element) => convert(element, file)), at };
    case "TOMLInlineTable": {
      const table: TomlTable = { kind: "table", entries: new Map(), at };
      for (const entry of node.body) addKeyValue(table, entry, file);
      return table;
    }
    case "TOMLValue":
      return { kind: "scalar", value: node.value, at };
  }
}
