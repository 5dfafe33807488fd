/** From text to the daemon's configuration: complete, checked, frozen; or every error at once. No side effects. */
import { checkPool, type KnownNames, readPool } from "./config/check-pool.ts";
import { checkPage, daemonTable, toDaemonConfig } from "./config/daemon-keys.ts";
import { describeValue, explain, type Finding, unknownKey } from "./config/explain.ts";
import { readImage } from "./config/image-keys.ts";
import { mergeTables } from "./config/merge.ts";
import { toPoolConfig } from "./config/pool-keys.ts";
import { configError, formatKey, type Problem } from "./config/problems.ts";
import { checkServices, servicesTable, toServices } from "./config/service-keys.ts";
import { readSource } from "./config/source-keys.ts";
import { locate, plainValue, readToml, type TomlTable } from "./config/toml.ts";
import type { Config, DaemonConfig, ImageConfig, PoolConfig, SourceConfig } from "./config/types.ts";
import { isName, NAME_RULE } from "./config/values.ts";
import { LOCAL } from "./sources/source.ts";

export interface ConfigFile {
  path: string;
  text: string;
}

const SECTIONS = ["daemon", "services", "pools", "images", "sources"];
/** The image that there always is. */
const DEFAULT_IMAGE: ImageConfig = Object.freeze({ type: "auto" });

/**
 * Reads the files in this order: what a later one says of a key replaces what an earlier one said.
 * @throws FleetingdError INVALID_CONFIG, whose message has one line for each error in any of the files.
 */
export function parseConfig(files: readonly ConfigFile[]): Config {
  const { root, problems: syntaxProblems } = readFiles(files);
  const input = asTable(plainValue(root));
  const findings: Finding[] = unknownSections(input);
  const daemon = readDaemon(input, findings);
  const services = readServices(input, findings);
  const images = readImages(input, findings);
  const isComplete = syntaxProblems.length === 0;
  // What a broken file would have defined is not known, so references to it cannot be judged.
  const sources = readSources(input, findings);
  const pools = readPools(
    input,
    {
      images: isComplete ? Object.keys(images) : undefined,
      sources,
      sourceNames: isComplete ? Object.keys(asTable(input["sources"])) : undefined,
    },
    findings,
  );
  const problems = [...syntaxProblems, ...findings.map((finding) => toProblem(finding, root))];
  if (daemon === undefined || problems.length > 0) throw configError(inOrder(problems, files));
  return Object.freeze({
    daemon,
    pools: Object.freeze(pools),
    images: Object.freeze(images),
    sources: Object.freeze(sources),
    services,
  });
}

interface Located extends Problem {
  file: string;
  line: number;
}

function readFiles(files: readonly ConfigFile[]): { root: TomlTable; problems: Located[] } {
  let root: TomlTable = { kind: "table", entries: new Map(), at: { file: "", line: 1 } };
  const problems: Located[] = [];
  for (const { path, text } of files) {
    const result = readToml(path, text);
    if ("table" in result) root = mergeTables(root, result.table);
    else {
      const { file, line } = result.at;
      problems.push({ where: `${file}:${line}`, key: "", text: result.syntaxError, file, line });
    }
  }
  return { root, problems };
}

function toProblem({ path, text }: Finding, root: TomlTable): Located {
  const { file, line } = locate(root, path);
  return { where: `${file}:${line}`, key: formatKey(path), text, file, line };
}

function inOrder(problems: readonly Located[], files: readonly ConfigFile[]): Located[] {
  const order = files.map(({ path }) => path);
  return [...problems].sort((a, b) => order.indexOf(a.file) - order.indexOf(b.file) || a.line - b.line);
}

function unknownSections(input: Table): Finding[] {
  return Object.keys(input)
    .filter((name) => !SECTIONS.includes(name))
    .map((name) => ({ path: [name], text: unknownKey(name, SECTIONS) }));
}

function readDaemon(input: Table, findings: Finding[]): DaemonConfig | undefined {
  const table = input["daemon"] ?? {};
  const result = daemonTable.safeParse(table);
  if (result.success) {
    const daemon = toDaemonConfig(result.data);
    findings.push(...under(["daemon"], checkPage(daemon)));
    return daemon;
  }
  findings.push(...under(["daemon"], explain(result.error.issues, table, Object.keys(daemonTable.shape))));
  return undefined;
}

function readServices(input: Table, findings: Finding[]): Config["services"] {
  const table = input["services"] ?? {};
  const result = servicesTable.safeParse(table);
  if (result.success) {
    const services = toServices(result.data);
    findings.push(...under(["services"], checkServices(services)));
    return services;
  }
  findings.push(
    ...under(["services"], explain(result.error.issues, table, Object.keys(servicesTable.shape))),
  );
  return [];
}

function readImages(input: Table, findings: Finding[]): Record<string, ImageConfig> {
  const images: Record<string, ImageConfig> = Object.create(null);
  images["default"] = DEFAULT_IMAGE;
  for (const [name, table] of namedTables(input, "images", findings)) {
    const result = readImage(table);
    // A broken image is an error already, and need not be a second one wherever it is named.
    images[name] = "image" in result ? result.image : DEFAULT_IMAGE;
    if ("findings" in result) findings.push(...under(["images", name], result.findings));
  }
  return images;
}

function readSources(input: Table, findings: Finding[]): Record<string, SourceConfig> {
  const sources: Record<string, SourceConfig> = Object.create(null);
  for (const [name, table] of namedTables(input, "sources", findings)) {
    const result = readSource(table);
    if ("source" in result) sources[name] = result.source;
    else findings.push(...under(["sources", name], result.findings));
    if (name === LOCAL) {
      findings.push({
        path: ["sources", name],
        text: "this name means this host; give the section another one",
      });
    }
  }
  return sources;
}

function readPools(input: Table, known: KnownNames, findings: Finding[]): Record<string, PoolConfig> {
  const pools: Record<string, PoolConfig> = Object.create(null);
  for (const [name, table] of namedTables(input, "pools", findings)) {
    const result = readPool(table);
    const wrong = "table" in result ? checkPool(result.table, known) : result.findings;
    findings.push(...under(["pools", name], wrong));
    if ("table" in result && wrong.length === 0) pools[name] = toPoolConfig(result.table, known.sources);
  }
  return pools;
}

type Table = Readonly<Record<string, unknown>>;

function namedTables(input: Table, section: string, findings: Finding[]): Array<[string, unknown]> {
  const value = input[section];
  if (value === undefined) return [];
  if (typeof value !== "object" || value === null || Array.isArray(value) || value instanceof Date) {
    const text = `expected tables such as [${section}.default], but this is ${describeValue(value)}`;
    findings.push({ path: [section], text });
    return [];
  }
  const entries = Object.entries(value);
  for (const [name] of entries.filter(([name]) => !isName(name))) {
    findings.push({ path: [section, name], text: `a name has ${NAME_RULE}` });
  }
  return entries;
}

function under(path: readonly string[], findings: readonly Finding[]): Finding[] {
  return findings.map((finding) => ({ ...finding, path: [...path, ...finding.path] }));
}

function asTable(value: unknown): Table {
  return typeof value === "object" && value !== null ? Object.fromEntries(Object.entries(value)) : {};
}
