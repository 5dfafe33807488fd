/** The runner's `[runners.autoscaler.plugin_config]`: which pool of the daemon a plugin gets its instances from. */
import { createHash } from "node:crypto";
import { isDeepStrictEqual } from "node:util";
import * as z from "zod";
import { messageOf } from "../errors.ts";
import { checkPool, type KnownNames, readPool } from "./check-pool.ts";
import { formatDuration } from "./duration.ts";
import { describeValue, explain, type Finding, nearest, unknownKey } from "./explain.ts";
import { takeInlineSource } from "./inline-source.ts";
import { key } from "./key.ts";
import { DEFAULT_SOCKET } from "./paths.ts";
import { POOL_FIELDS, type PoolKey, poolTable, toPoolConfig } from "./pool-keys.ts";
import { configError, formatKey } from "./problems.ts";
import type { SourceType } from "./source-keys.ts";
import type { Config, PoolConfig } from "./types.ts";
import { absolutePath, debugAddress, groupName, type ListenAddress, name } from "./values.ts";

export interface PluginPool {
  /** The named pool's name, or one that follows from the inline keys: `inline-4f2a9c01d3b7`. */
  poolName: string;
  pool: PoolConfig;
  /** Whether the pool is made for this plugin, and not one of the daemon's configuration. */
  inline: boolean;
  /** Where the runner wants the web page, besides where the daemon's own configuration has it. */
  debugListen: ListenAddress | undefined;
  /** What tells this `[[runners]]` entry's instances from those of others on the same pool. */
  group: string | undefined;
}

/** The keys that `plugin_config` has besides those of a pool. */
export const pluginTable = z.strictObject({
  pool: key(name.optional(), {
    meaning: "The name of a pool of the daemon's configuration.",
    example: "ci",
    defaultText: "the pool `default`, if there is one and no key of a pool is given here",
  }),
  group: key(groupName.optional(), {
    meaning:
      "Tells runners apart that use the same pool: each group sees only its own VMs. Two `[[runners]]` entries " +
      "are told apart without it as well; with it, each finds its own VMs again whatever the order they start in.",
    example: "team-a",
    defaultText: "numbered in the order of attaching",
  }),
  debug_server_addr: key(debugAddress.optional(), {
    meaning:
      "Where the daemon serves its [web page](web-page.md) from now on, besides `page_listen`: an address of the loopback and a " +
      "port from 1024. Other plugins have a debug server by this name.",
    example: "127.0.0.1:27060",
    defaultText: "nowhere",
  }),
  socket: key(absolutePath.optional(), {
    meaning: "The daemon's socket, if it is not at its usual place.",
    example: "/run/fleetingd-test/fleetingd.sock",
    defaultText: `\`${DEFAULT_SOCKET}\``,
  }),
});

const WHERE = "plugin_config";
const PLUGIN_KEYS = Object.keys(pluginTable.shape);
const POOL_KEYS = Object.keys(poolTable.shape);
const ALL_KEYS = [...PLUGIN_KEYS, ...POOL_KEYS];
const DEFAULT_POOL = "default";
const HASH_LENGTH = 12;
const MAX_SHOWN_LIST = 120;
const DEFAULTS: PoolConfig = toPoolConfig(poolTable.parse({}));

/**
 * Which pool a plugin's configuration means.
 * @param json The JSON of `plugin_config`; undefined, empty or `null` if the runner has none.
 * @throws FleetingdError INVALID_CONFIG, whose message has one line for each error.
 */
export function parsePluginConfig(json: string | undefined, daemonConfig: Config): PluginPool {
  const read = readPluginConfig(parseJson(json), daemonConfig);
  if ("findings" in read) throw failure(read.findings);
  return read;
}

/**
 * Which pool the keys of a `plugin_config` mean, or all that is wrong with them.
 * @param type whose keys they are, if that is known and need not be seen from them
 */
export function readPluginConfig(
  given: Input,
  daemonConfig: Config,
  type?: SourceType,
): PluginPool | { findings: readonly Finding[] } {
  const other = takeInlineSource(given, type);
  if (other !== undefined && other.findings.length > 0)
    return { findings: [...other.findings, ...unknownKeys(other.rest, other.known)] };
  const input = other?.rest ?? given;
  const config = { ...daemonConfig, sources: { ...daemonConfig.sources, ...other?.sources } };
  const inline = pick(input, POOL_KEYS);
  const own = pick(input, PLUGIN_KEYS);
  const plugin = pluginTable.safeParse(own);
  const pool = readPool(inline);
  const findings = unknownKeys(input, other?.known);
  if (!plugin.success) findings.push(...explain(plugin.error.issues, own, PLUGIN_KEYS));
  if ("findings" in pool) findings.push(...pool.findings);

  const wanted = plugin.data?.pool;
  const poolName = wanted ?? (Object.keys(inline).length === 0 ? DEFAULT_POOL : undefined);
  const named = poolName === undefined ? undefined : config.pools[poolName];
  if (wanted !== undefined && named === undefined) findings.push(noSuchPool(wanted, config));
  if ("table" in pool) {
    const isNamed = poolName !== undefined && named !== undefined;
    // Beside a named pool the keys only confirm it: what they leave out means nothing.
    if (isNamed)
      findings.push(...contradictions(inline, toPoolConfig(pool.table, config.sources), named, poolName));
    else findings.push(...checkPool(pool.table, knownNames(config)));
  }
  if (findings.length > 0 || !plugin.success || "findings" in pool) return { findings };

  const { group, debug_server_addr: debugListen } = plugin.data;
  const about = { group, debugListen };
  if (poolName !== undefined && named !== undefined)
    return { poolName, pool: named, inline: false, ...about };
  const made = toPoolConfig(pool.table, config.sources);
  return { poolName: inlineName(made), pool: made, inline: true, ...about };
}

type Input = Readonly<Record<string, unknown>>;

function parseJson(json: string | undefined): Input {
  if (json === undefined || json.trim() === "") return {};
  let value: unknown;
  try {
    value = JSON.parse(json);
  } catch (error) {
    throw failure([
      { path: [], text: `expected JSON, but it cannot be read: ${messageOf(error).slice(0, 200)}` },
    ]);
  }
  if (value === null) return {};
  if (typeof value === "object" && !Array.isArray(value)) return Object.assign(Object.create(null), value);
  throw failure([{ path: [], text: `expected a table of keys, but this is ${describeValue(value)}` }]);
}

/** Those of `keys` that the object itself has; the result has no prototype. */
function pick(object: object, keys: readonly string[]): Input {
  const picked: Record<string, unknown> = Object.create(null);
  for (const [key, value] of Object.entries(object)) if (keys.includes(key)) picked[key] = value;
  return picked;
}

/** @param more keys that there are as well, of another plugin */
function unknownKeys(input: Input, more: readonly string[] = []): Finding[] {
  return Object.keys(input)
    .filter((name) => !ALL_KEYS.includes(name))
    .map((name) => ({ path: [name], text: unknownKey(name, [...more, ...ALL_KEYS]) }));
}

function noSuchPool(wanted: string, config: Config): Finding {
  const known = Object.keys(config.pools);
  const what =
    known.length === 0 ? "it has no pools at all; add it, or leave this key out" : nearest(wanted, known);
  return {
    path: ["pool"],
    text: `there is no pool ${describeValue(wanted)} in the daemon's configuration; ${what}`,
  };
}

function contradictions(given: Input, said: PoolConfig, named: PoolConfig, poolName: string): Finding[] {
  return (Object.keys(POOL_FIELDS) as PoolKey[])
    .filter((key) => key in given && !isDeepStrictEqual(said[POOL_FIELDS[key]], named[POOL_FIELDS[key]]))
    .map((key) => {
      const [here, there] = [said, named].map((pool) => showValue(pool, key));
      const text = `${here} contradicts the pool ${describeValue(poolName)} of the daemon's configuration, where it is ${there}; leave it out here, or change one of them`;
      return { path: [key], text };
    });
}

function knownNames({ images, sources }: Config): KnownNames {
  return { images: Object.keys(images), sources, sourceNames: Object.keys(sources) };
}

/** A pool's value as a person would write it. */
function showValue(pool: PoolConfig, key: PoolKey): string {
  if (key === "vm_subnet") return describeValue(pool.subnet.cidr);
  const field = POOL_FIELDS[key];
  // Not what they are configured to: that is the daemon's business.
  const value = key === "sources" ? pool.sources.map((source) => source.name) : pool[field];
  if (typeof value === "number" && field.endsWith("Ms")) return describeValue(formatDuration(value));
  if (!Array.isArray(value)) return describeValue(value);
  const shown = JSON.stringify(value);
  return shown.length > MAX_SHOWN_LIST ? `${shown.slice(0, MAX_SHOWN_LIST)}…` : shown;
}

/** The same keys give the same name, today and after a restart. */
function inlineName(pool: PoolConfig): string {
  const canonical = Object.values(POOL_FIELDS)
    .toSorted()
    .map((field) => [field, pool[field]])
    // What has its default says nothing, so a version that has more keys knows the pools of the one before.
    .filter(([field, value]) => !isDeepStrictEqual(value, DEFAULTS[field as keyof PoolConfig]));
  const hash = createHash("sha256").update(JSON.stringify(canonical)).digest("hex");
  return `inline-${hash.slice(0, HASH_LENGTH)}`;
}

function failure(findings: readonly Finding[]): Error {
  return configError(findings.map(({ path, text }) => ({ where: WHERE, key: formatKey(path), text })));
}
