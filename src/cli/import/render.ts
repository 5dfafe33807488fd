/** An import as TOML, with what became of each key as comments. */
import { assignment, tomlKey, toReadableToml } from "../../config/to-toml.ts";
import type { Import, ImportedRunner, Note } from "./answer.ts";

type Table = Readonly<Record<string, unknown>>;

/** The file for the daemon, whose comments say what is to be done with the runner's `file`. */
export function renderImport(file: string, { runners, config }: Import): string[] {
  return [
    `# For /etc/fleetingd/config.toml: what fleetingd import-config has made of ${printable(file)}`,
    "# Then fleetingd config check says whether it is right, and fleetingd doctor looks at the runner's configuration.",
    ...runners.flatMap((runner) => [
      "",
      ...heading(runner).map(comment),
      ...runner.pools.flatMap((pool) => [
        ...section(["sources", pool], config.sources[pool]),
        ...section(["pools", pool], config.pools[pool]),
      ]),
      ...instead(runner),
    ]),
  ];
}

function heading({ name, line, from, notes }: ImportedRunner): string[] {
  const who = name === null ? "A runner without a name" : `The runner ${JSON.stringify(name)}`;
  return [`${who} (line ${line}), which has ${from}:`, ...notes.map(noteLine)];
}

const MARKS: Readonly<Record<Note["fate"], string>> = { "taken-over": " ", unneeded: "-", "to-do": "!" };

function noteLine({ key, line, fate, text }: Note): string {
  return `${MARKS[fate]} ${key}${line === null ? "" : ` (line ${line})`}: ${text}`;
}

function instead({ runnerConfig }: ImportedRunner): string[] {
  if (runnerConfig === "") return [];
  const lines = [
    "In the runner's configuration, instead:",
    ...runnerConfig.split("\n").map((line) => `  ${line}`),
  ];
  return ["", ...lines.map(comment)];
}

function section(path: readonly string[], table: Table | undefined): string[] {
  if (table === undefined) return [];
  const entries = Object.entries(table);
  const isTable = (value: unknown): value is Table =>
    typeof value === "object" && value !== null && !Array.isArray(value);
  const plain = entries.filter(([, value]) => !isTable(value));
  return [
    "",
    `[${path.map(tomlKey).join(".")}]`,
    ...plain.map(([key, value]) =>
      typeof value === "string" ? `${tomlKey(key)} = ${toReadableToml(value)}` : assignment(key, value),
    ),
    ...entries.flatMap(([key, value]) => (isTable(value) ? section([...path, key], value) : [])),
  ];
}

function comment(line: string): string {
  return `# ${printable(line)}`;
}

/** A comment of TOML has no control characters. */
function printable(text: string): string {
  return text.replaceAll(/\p{Cc}/gu, "?");
}
