/** One pool, and the source that it needs, of the keys of a `plugin_config`. */
import type { Finding } from "../../config/explain.ts";
import { type Fate, type Translation, translate } from "../../config/inline-source.ts";
import { pluginTable, readPluginConfig } from "../../config/plugin-config.ts";
import { poolTable } from "../../config/pool-keys.ts";
import { type SourceType, sourceTables } from "../../config/source-keys.ts";
import { toToml } from "../../config/to-toml.ts";
import { parseConfig } from "../../config.ts";
import type { Note } from "./answer.ts";
import { hideSecrets } from "./secrets.ts";

type Table = Readonly<Record<string, unknown>>;

export interface NewPool {
  /** `[sources.<name>]`; undefined for a pool of this host's. */
  source: Table | undefined;
  /** `[pools.<name>]` */
  pool: Table;
  /** What stays in `plugin_config`. */
  kept: Table;
  notes: Note[];
  maxInstances: number;
}

const NOTHING = parseConfig([]);
const CONFIG_DIRECTORY = "/etc/fleetingd";
/** What the daemon's unit can't write, or sees another one of. */
const NOT_THE_DAEMONS = /^\/(boot|etc|home|root|tmp|usr|var\/tmp)(\/|$)/;

/**
 * Makes the pool `name`.
 * @param type whose keys they are; undefined: to be seen from them
 * @param lineOf where a key stands
 */
export function newPool(
  name: string,
  given: Table,
  type: SourceType | undefined,
  lineOf: (key: string) => number,
): NewPool | { findings: readonly Finding[] } {
  const read = readPluginConfig(given, NOTHING, type);
  if ("findings" in read) return read;
  const translation = translate(given, type);
  const rest = translation?.rest ?? given;
  const source = translation === undefined ? undefined : withFiles(name, translation);
  const pool = { ...(source === undefined ? {} : { sources: [name] }), ...pick(rest, poolTable.shape) };
  const notes = [
    ...Object.keys(given).map((key): Note => ({ key, line: lineOf(key), ...noteOn(key, name, translation) })),
    ...(translation === undefined ? [] : notGiven(given, translation)),
  ];
  const { tables, hidden } = shown({ ...(source === undefined ? {} : { source }), pool });
  return {
    source: tables["source"],
    pool: tables["pool"] ?? {},
    kept: pick(rest, pluginTable.shape),
    notes: notes.map((note) => withAdvice(note, given, hidden.has(ourName(note.key, translation)), name)),
    maxInstances: read.pool.maxInstances,
  };
}

function pick(input: Table, shape: object): Table {
  return Object.fromEntries(Object.entries(input).filter(([key]) => Object.hasOwn(shape, key)));
}

/** The source's table with secrets in files of their own, where it has keys for them. */
function withFiles(name: string, { type, source }: Translation): Table {
  const entries = Object.entries(source).flatMap(([key, value]): [string, unknown][] => {
    const file = fileKey(key, type);
    if (file === undefined) return [[key, value]];
    return file in source ? [] : [[file, secretFile(name, key)]];
  });
  return Object.fromEntries(entries);
}

/** What may stand in a file instead is a secret: the key that names the file. */
function fileKey(key: string, type: SourceType): string | undefined {
  return [`${key}_file`, `${key}_path`].find((name) => Object.hasOwn(sourceTables[type].shape, name));
}

function secretFile(name: string, key: string): string {
  return `${CONFIG_DIRECTORY}/${name}-${key.replaceAll("_", "-")}`;
}

function noteOn(
  key: string,
  name: string,
  translation: Translation | undefined,
): Pick<Note, "fate" | "text"> {
  const fate: Fate = translation?.fates.get(key) ?? { table: "rest", name: key };
  if ("unneeded" in fate) return { fate: "unneeded", text: `has no meaning here: ${fate.unneeded}` };
  const isSource = fate.table === "source";
  const file = translation !== undefined && isSource ? fileKey(fate.name, translation.type) : undefined;
  if (file !== undefined) {
    const path = translation?.source[file] ?? secretFile(name, fate.name);
    const text = `write it into ${path}, which only root should be able to read: that is ${file} in [sources.${name}]`;
    return { fate: "to-do", text };
  }
  const places = isSource ? [`[sources.${name}]`] : [];
  if (!isSource)
    places.push(Object.hasOwn(pluginTable.shape, fate.name) ? "plugin_config" : `[pools.${name}]`);
  if (fate.name === "max_instances" && translation !== undefined) places.unshift(`[sources.${name}]`);
  const what = fate.name === key ? "the same" : fate.name;
  return { fate: "taken-over", text: `${what}, in ${places.join(" and ")}` };
}

/** What the other plugin takes for keys that it was not given. */
function notGiven(given: Table, { names, source, rest, fates }: Translation): Note[] {
  const named = new Set([...fates.values()].flatMap((fate) => ("unneeded" in fate ? [] : [fate.name])));
  return Object.entries({ ...source, ...rest })
    .filter(([key]) => key !== "type" && !named.has(key) && !(key in given))
    .map(([key, value]) => {
      const [theirs = key] = Object.entries(names).find(([, ours]) => ours === key) ?? [];
      return {
        key: theirs,
        line: null,
        fate: "taken-over",
        text: `not given: ${key} = ${toToml(value)}, as it is there`,
      };
    });
}

function ourName(key: string, translation: Translation | undefined): string {
  const fate = translation?.fates.get(key);
  return fate === undefined || "unneeded" in fate ? key : fate.name;
}

function shown(tables: Readonly<Record<string, Table>>): {
  tables: Record<string, Table>;
  hidden: Set<string>;
} {
  const hidden = new Set<string>();
  const entries = Object.entries(tables).map(([name, table]): [string, Table] => {
    const values = Object.entries(table).flatMap(([key, value]): [string, unknown][] => {
      const one = hideSecrets(key, value);
      if (one.isHidden) hidden.add(key);
      return one.value === undefined ? [] : [[key, one.value]];
    });
    return [name, Object.fromEntries(values)];
  });
  return { tables: Object.fromEntries(entries), hidden };
}

function withAdvice(note: Note, given: Table, isHidden: boolean, name: string): Note {
  const path = given["vm_disk_directory"];
  if (note.key === "vm_disk_directory" && typeof path === "string" && NOT_THE_DAEMONS.test(path)) {
    const text = `${note.text}, but choose another: the daemon's unit can't keep anything in ${path}`;
    return { ...note, fate: "to-do", text };
  }
  if (!isHidden) return note;
  const text = `${note.text}, but for what looks like a secret: write the whole key into ${CONFIG_DIRECTORY}/conf.d/${name}.toml, which only root should be able to read`;
  return { ...note, fate: "to-do", text };
}
