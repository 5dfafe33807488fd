/**
 * Makes what is said about the configuration from its schema, the tables of docs/configuration.md and the example that is
 * installed, systemd/config.toml; the table of docs/metrics.md from the metrics
 * themselves; and docs/schemas.
 *
 *     tsx scripts/docs.ts           writes them
 *     tsx scripts/docs.ts --check   fails if one of them is not as it would be written
 */
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import { logEntrySchema, loggedEventSchema, timelineSchema } from "../src/api/events.ts";
import { gcReportSchema, imageListSchema } from "../src/api/images.ts";
import { instancesSchema, statusSchema, whySchema } from "../src/api/status.ts";
import { configCheckSchema, licensesSchema, versionSchema } from "../src/cli/answers.ts";
import { importSchema } from "../src/cli/import/answer.ts";
import { daemonTable } from "../src/config/daemon-keys.ts";
import { imageTables } from "../src/config/image-keys.ts";
import { type KeyDoc, keyDocs } from "../src/config/key.ts";
import { pluginTable } from "../src/config/plugin-config.ts";
import { poolTable } from "../src/config/pool-keys.ts";
import { remoteKeys } from "../src/config/remote-keys.ts";
import { servicesTable } from "../src/config/service-keys.ts";
import { sourceTables } from "../src/config/source-keys.ts";
import { assignment, toToml } from "../src/config/to-toml.ts";
import { reportSchema } from "../src/doctor/finding.ts";
import { createInstruments } from "../src/metrics/instruments.ts";

const ROOT = join(import.meta.dirname, "..");
export const PAGE_PATH = join(ROOT, "docs/configuration.md");
export const METRICS_PATH = join(ROOT, "docs/metrics.md");
export const EXAMPLE_PATH = join(ROOT, "systemd/config.toml");
const COMMENT_WIDTH = 100;

/** What commands print with --json, by the names of their schemas in docs/schemas. */
export const SCHEMAS: Readonly<Record<string, z.ZodType>> = {
  status: statusSchema,
  ps: instancesSchema,
  why: whySchema,
  event: loggedEventSchema,
  log: logEntrySchema,
  explain: timelineSchema,
  doctor: reportSchema,
  images: imageListSchema,
  gc: gcReportSchema,
  "config-check": configCheckSchema,
  "import-config": importSchema,
  licenses: licensesSchema,
  version: versionSchema,
};
export const SCHEMAS_PATH = join(ROOT, "docs/schemas");

export function renderSchema(schema: z.ZodType): string {
  return `${JSON.stringify(z.toJSONSchema(schema), undefined, 2)}\n`;
}

export type Shape = Readonly<Record<string, z.ZodType>>;

/** Every table of keys, by the name of its place in the page. */
export const TABLES: Readonly<Record<string, Shape>> = {
  daemon: daemonTable.shape,
  services: servicesTable.shape,
  pools: poolTable.shape,
  ...Object.fromEntries(Object.entries(imageTables).map(([type, table]) => [`images.${type}`, table.shape])),
  sources: remoteKeys,
  ...Object.fromEntries(
    Object.entries(sourceTables).map(([type, table]) => [`sources.${type}`, withoutCommon(table.shape)]),
  ),
  plugin: pluginTable.shape,
};

/** What all sources have is said once; what one has in its own way is said there as well. */
function withoutCommon(shape: Shape): Shape {
  const common = new Map<string, unknown>(Object.entries(remoteKeys));
  return Object.fromEntries(Object.entries(shape).filter(([name, schema]) => common.get(name) !== schema));
}

export interface DocumentedKey extends KeyDoc {
  name: string;
  schema: z.ZodType;
  /** The default as it could be written; undefined if it has none, or none that can be written. */
  defaultValue: unknown;
  required: boolean;
}

/** @throws Error naming a key that has no documentation */
export function documentedKeys(shape: Shape): DocumentedKey[] {
  return Object.entries(shape).map(([name, schema]) => {
    const doc = keyDocs.get(schema);
    if (doc === undefined) throw new Error(`the key ${name} has no documentation: wrap its schema in key()`);
    const hasDefault = schema instanceof z.ZodDefault || schema instanceof z.ZodPrefault;
    const defaultValue = hasDefault ? schema.def.defaultValue : undefined;
    return {
      ...doc,
      name,
      schema,
      defaultValue,
      required: !hasDefault && !(schema instanceof z.ZodOptional),
    };
  });
}

/** The page with its tables made anew. */
export function renderPage(page: string): string {
  return Object.entries(TABLES).reduce(
    (text, [place, shape]) => replaceTable(text, place, renderTable(documentedKeys(shape))),
    page,
  );
}

function replaceTable(page: string, place: string, table: string): string {
  const [begin, end] = [`<!-- begin ${place} -->`, `<!-- end ${place} -->`];
  const [from, to] = [page.indexOf(begin), page.indexOf(end)];
  if (from < 0 || to < from) throw new Error(`the page lacks the marks ${begin} and ${end}`);
  return `${page.slice(0, from + begin.length)}\n\n${table}\n\n${page.slice(to)}`;
}

/** The page of metrics with its table made anew. */
export function renderMetricsPage(page: string): string {
  const rows = createInstruments().definitions.map(
    ({ name, kind, labels, help }) =>
      `| ${code(name)} | ${kind} | ${labels.map(code).join(", ")} | ${help} |`,
  );
  const table = ["| Metric | Kind | Labels | Meaning |", "| --- | --- | --- | --- |", ...rows].join("\n");
  return replaceTable(page, "metrics", table);
}

function renderTable(keys: readonly DocumentedKey[]): string {
  const rows = keys.map((key) => {
    const cells = [
      `\`${key.name}\``,
      kind(key),
      defaultCell(key),
      key.meaning,
      code(assignment(key.name, key.example)),
    ];
    return `| ${cells.map((cell) => cell.replaceAll("|", "\\|")).join(" | ")} |`;
  });
  return ["| Key | Value | Default | Meaning | Example |", "| --- | --- | --- | --- | --- |", ...rows].join(
    "\n",
  );
}

function defaultCell(key: DocumentedKey): string {
  if (key.required) return "none: it must be set";
  return key.defaultText ?? code(toToml(key.defaultValue));
}

function kind({ kind: said, schema, unit }: DocumentedKey): string {
  return [said ?? kindOf(innermost(schema)), unit, bounds(innermost(schema))]
    .filter((part) => part !== undefined)
    .join(", ");
}

function kindOf(schema: z.core.$ZodType): string {
  if (schema instanceof z.ZodEnum) return schema.options.map((option) => code(toToml(option))).join(" or ");
  if (schema instanceof z.ZodLiteral)
    return [...schema.values].map((value) => code(toToml(value))).join(" or ");
  if (schema instanceof z.ZodArray) return "list of texts";
  if (schema instanceof z.ZodNumber) return "whole number";
  if (schema instanceof z.ZodBoolean) return "`true` or `false`";
  if (schema instanceof z.ZodString) return "text";
  throw new Error(`a schema of the kind ${schema._zod.def.type} needs a kind in its documentation`);
}

function bounds(schema: z.core.$ZodType): string | undefined {
  return schema instanceof z.ZodNumber ? `${schema.minValue} to ${schema.maxValue}` : undefined;
}

/** The schema behind defaults, options and transformations: what a person writes. */
function innermost(schema: z.core.$ZodType): z.core.$ZodType {
  const isWrapped =
    schema instanceof z.ZodDefault || schema instanceof z.ZodPrefault || schema instanceof z.ZodOptional;
  if (isWrapped) return innermost(schema.def.innerType);
  return schema instanceof z.ZodPipe ? innermost(schema.def.in) : schema;
}

/** A configuration that sets nothing: `# ` begins an explanation, `#` alone a setting that one may uncomment. */
export function renderExample(): string {
  const images = Object.entries(imageTables).map(([type, table]) =>
    section(`images.${type === "auto" ? "default" : type}`, documentedKeys(table.shape)),
  );
  const sources = Object.entries(sourceTables).map(([type, table]) =>
    section(`sources.${type}`, documentedKeys(table.shape)),
  );
  const lines = [
    ...comment(
      "The configuration of fleetingd. Every setting is optional: a commented one shows its default, or an example " +
        "where there is no plain default. To set one, uncomment it and the [table] that it is in. Files in conf.d/ beside this one are read after it and win. " +
        "Check it with `fleetingd config check`.",
    ),
    "",
    "[daemon]",
    ...settings(documentedKeys(daemonTable.shape)),
    "",
    ...comment("Services of this host that its VMs may use."),
    ...section("services", documentedKeys(servicesTable.shape)),
    "",
    ...comment("A pool of VMs that are all alike. Add as many as you like, each with a name of its own."),
    ...section("pools.default", documentedKeys(poolTable.shape)),
    "",
    ...comment(
      "Where the VMs of a pool come from. Which keys there are depends on the type; `default` is always there.",
    ),
    ...images.flatMap((image) => [...image, ""]),
    ...comment(
      "Clouds that pools may have instances at, by the name that a pool's `sources` says. Which keys there are depends on the type.",
    ),
    ...sources.flatMap((source) => [...source, ""]),
  ];
  return `${lines.join("\n").trimEnd()}\n`;
}

function section(name: string, keys: readonly DocumentedKey[]): string[] {
  return [`#[${name}]`, ...settings(keys)];
}

function settings(keys: readonly DocumentedKey[]): string[] {
  return keys.flatMap((key) => [
    "",
    ...comment(`${key.meaning.replaceAll("`", "")}${key.unit === undefined ? "" : ` Unit: ${key.unit}.`}`),
    `#${assignment(key.name, key.defaultValue ?? key.example)}`,
  ]);
}

function comment(text: string): string[] {
  const lines: string[] = [];
  let line = "#";
  for (const word of text.split(" ")) {
    if (line.length + 1 + word.length > COMMENT_WIDTH) {
      lines.push(line);
      line = "#";
    }
    line += ` ${word}`;
  }
  return [...lines, line];
}

function code(text: string): string {
  return `\`${text}\``;
}

async function main(): Promise<void> {
  const made = [
    { path: PAGE_PATH, text: renderPage(await readFile(PAGE_PATH, "utf8")) },
    { path: METRICS_PATH, text: renderMetricsPage(await readFile(METRICS_PATH, "utf8")) },
    { path: EXAMPLE_PATH, text: renderExample() },
    ...Object.entries(SCHEMAS).map(([name, schema]) => ({
      path: join(SCHEMAS_PATH, `${name}.json`),
      text: renderSchema(schema),
    })),
  ];
  for (const { path, text } of made) {
    if (!process.argv.includes("--check")) await writeFile(path, text);
    else if ((await readFile(path, "utf8")) !== text) {
      process.stderr.write(`${path} is not up to date: run \`npx tsx scripts/docs.ts\`\n`);
      process.exitCode = 1;
    }
  }
}

if (process.argv[1] === import.meta.filename) await main();
