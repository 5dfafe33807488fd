/** The keys of a fleeting plugin that this one can stand in for: in `plugin_config` they describe a pool at that plugin's cloud. */
import type { Finding } from "./explain.ts";
import { poolTable } from "./pool-keys.ts";
import { readSource, type SourceType, sourceTables } from "./source-keys.ts";
import type { SourceConfig } from "./types.ts";

type Input = Readonly<Record<string, unknown>>;

interface OtherPlugin {
  type: SourceType;
  /** A key that it can't do without, and that no other has. */
  marker: string;
  /** Its name for what is a group here. */
  group: string;
  /** How many instances it allows. */
  maxInstances: number;
}

const PLUGINS: readonly OtherPlugin[] = [
  { type: "openstack", marker: "server_spec", group: "name", maxInstances: 1_000 },
];

/** What is the same in both: the pool's. */
const POOL_KEYS = new Set(Object.keys(poolTable.shape));

/**
 * Takes the keys of another plugin out of `input`.
 * @returns `rest`, which has keys of ours instead; `sources` has the one that it names
 */
export function takeInlineSource(
  input: Input,
):
  | { rest: Input; sources: Readonly<Record<string, SourceConfig>>; findings: readonly Finding[] }
  | undefined {
  const plugin = PLUGINS.find(({ marker }) => marker in input);
  if (plugin === undefined) return undefined;
  const { type, group, maxInstances } = plugin;
  const own = new Set(Object.keys(sourceTables[type].shape));
  const isSources = (key: string): boolean => own.has(key) && !POOL_KEYS.has(key) && key !== "type";
  const source = Object.fromEntries(Object.entries(input).filter(([key]) => isSources(key)));
  const read = readSource({ max_instances: input["max_instances"] ?? maxInstances, ...source, type });
  const name = `plugin-${type}`;
  const others = Object.entries(input).filter(([key]) => !isSources(key) && key !== group);
  const given = input["group"] ?? input[group];
  const rest = {
    // Such a plugin makes what it is asked for, and nothing ahead of that.
    warm_instances: 0,
    sources: [name],
    ...Object.fromEntries(others),
    ...(given === undefined ? {} : { group: given }),
  };
  if ("findings" in read) return { rest, sources: {}, findings: read.findings };
  return { rest, sources: { [name]: read.source }, findings: [] };
}
