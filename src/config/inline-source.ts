/** The keys of a fleeting plugin that this one can stand in for: in `plugin_config` they describe a pool at that plugin's cloud. */
import { createHash } from "node:crypto";
import { describeValue, type Finding } from "./explain.ts";
import { poolTable } from "./pool-keys.ts";
import { remoteKeys } from "./remote-keys.ts";
import { readSource, type SourceType, sourceTables } from "./source-keys.ts";
import type { SourceConfig } from "./types.ts";
import { groupName } from "./values.ts";

type Input = Readonly<Record<string, unknown>>;

interface OtherPlugin {
  type: SourceType;
  /** A key that only this plugin has begins so. */
  marker: string;
  /** Its name for what is a group here. */
  group?: string;
  /** Its names for keys of the source. */
  names: Readonly<Record<string, string>>;
  /** What it takes for keys of the source that are not given. */
  defaults: Input;
  /** Keys that say nothing here, and the only value that they may have. */
  fixed: Readonly<Record<string, { value: unknown; why: string }>>;
  /** Keys of what is done here without being told, and how. */
  unneeded?: Readonly<Record<string, string>>;
}

/** Of a source for which there is no other plugin: its own keys, with its type before them. */
const LIBVIRT_NAMES = Object.fromEntries(
  Object.keys(sourceTables.libvirt.shape)
    .filter((key) => key !== "type" && !(key in remoteKeys))
    .map((key) => [`libvirt_${key}`, key]),
);

const PLUGINS: readonly OtherPlugin[] = [
  { type: "libvirt", marker: "libvirt_", names: LIBVIRT_NAMES, defaults: {}, fixed: {} },
  {
    type: "openstack",
    marker: "server_spec",
    group: "name",
    names: {},
    defaults: { max_instances: 1_000 },
    fixed: {},
  },
  {
    type: "vcd",
    marker: "virtual_datacenter",
    group: "instance_group_name",
    names: { name: "description" },
    defaults: { max_instances: 1_000, create_timeout: "20m" },
    fixed: {},
    unneeded: {
      max_concurrent_operations: "what an organization has no room for waits until it has",
      session_refresh_interval: "a session is renewed before it ends, and when it is refused",
      vapp: "each machine has a vApp of its own",
      vm_name_prefix: "a machine is called as its vApp, which begins with vapp_name_prefix",
      startup_cleanup_timeout: "VMs outlive a restart, and new ones don't wait for what is removed",
    },
  },
  {
    type: "incus",
    marker: "incus_",
    names: {
      incus_image: "image",
      incus_instance_key_path: "ssh_key_path",
      incus_instance_size: "size",
      incus_disk_size: "disk_size",
      incus_startup_timeout: "create_timeout",
      incus_operation_timeout: "delete_timeout",
      incus_naming_scheme: "name_template",
    },
    defaults: {
      image: "runner-base",
      disk_size: "10GiB",
      create_timeout: 120,
      delete_timeout: 60,
      name_template: "runner-$random",
      max_instances: 20,
    },
    fixed: {
      incus_delete_only_own_vms: {
        value: true,
        why: "what does not carry this daemon's own tags is never deleted",
      },
    },
    unneeded: { state_file_path: "the daemon has a folder for its state" },
  },
];

/** A pool's as well as a source's. */
const MAX_INSTANCES = "max_instances";
/** What is the same in both: the pool's. */
const POOL_KEYS = new Set(Object.keys(poolTable.shape));

/** What another plugin's keys say, in ours. */
export interface Translation {
  type: SourceType;
  /** The other plugin's names for keys of the source. */
  names: OtherPlugin["names"];
  /** The table of the source. */
  source: Input;
  /** The keys of a pool, and of `plugin_config`; and those that nobody knows. */
  rest: Input;
  /** What has become of each key that was given. */
  fates: ReadonlyMap<string, Fate>;
  /** Every key that the other plugin, or a source of this type, has. */
  known: readonly string[];
  findings: readonly Finding[];
}

/** In which table a key is now, by what name; or why it says nothing here. */
export type Fate = { table: "source" | "rest"; name: string } | { unneeded: string };

interface InlineSource extends Pick<Translation, "rest" | "known" | "findings"> {
  sources: Readonly<Record<string, SourceConfig>>;
}

/**
 * Takes the keys of another plugin out of `input`.
 * @param type whose keys they are, if that is known and need not be seen from them
 * @returns `rest`, which has keys of ours instead; `sources` has the one that it names
 */
export function takeInlineSource(input: Input, type?: SourceType): InlineSource | undefined {
  const translation = translate(input, type);
  if (translation === undefined) return undefined;
  const { names, source, rest, known, findings } = translation;
  const name = `plugin-${translation.type}`;
  const all = { sources: [name], ...rest };
  const read = readSource(source);
  if ("source" in read) return { rest: all, sources: { [name]: read.source }, known, findings };
  const theirs = read.findings.map((finding) => inTheirWords(finding, names));
  return { rest: all, sources: {}, known, findings: [...findings, ...theirs] };
}

/**
 * Says in our keys what another plugin's say.
 * @param type whose keys they are, if that is known and need not be seen from them
 * @returns undefined if they are no other plugin's
 */
export function translate(input: Input, type?: SourceType): Translation | undefined {
  const plugin = PLUGINS.find((one) =>
    type === undefined ? Object.keys(input).some((key) => key.startsWith(one.marker)) : one.type === type,
  );
  if (plugin === undefined) return undefined;
  const { defaults, fixed, names } = plugin;
  const source: Record<string, unknown> = { type: plugin.type, ...defaults };
  const rest: Record<string, unknown> = { warm_instances: 0 };
  const fates = new Map<string, Fate>();
  for (const [key, value] of Object.entries(input)) {
    const fate = fateOf(key, plugin);
    fates.set(key, fate);
    if ("unneeded" in fate) continue;
    if (saysNothing(value) && isTheirs(key, fate, plugin)) continue;
    if (fate.table === "source") source[fate.name] = value;
    else if (fate.name === key) rest[key] = value;
    // A group of our own goes before their word for it.
    else if (!(fate.name in input)) rest[fate.name] = groupOf(value);
    if (key === MAX_INSTANCES) source[key] = value;
  }
  return {
    ...{ type: plugin.type, names, source, rest, fates },
    known: [names, fixed, plugin.unneeded ?? {}, sourceTables[plugin.type].shape].flatMap(Object.keys),
    findings: wrongFixed(input, fixed),
  };
}

function fateOf(key: string, { type, group, names, fixed, unneeded = {} }: OtherPlugin): Fate {
  const why = own(unneeded, key) ?? own(fixed, key)?.why;
  if (why !== undefined) return { unneeded: why };
  const name = own(names, key);
  if (name !== undefined) return { table: "source", name };
  if (key === group) return { table: "rest", name: "group" };
  // Another plugin's word for a key is the only one that counts: `image` beside `incus_image` is the pool's.
  const isSources = Object.hasOwn(sourceTables[type].shape, key) && key !== "type";
  const isTaken = POOL_KEYS.has(key) || Object.values(names).includes(key);
  return { table: isSources && !isTaken ? "source" : "rest", name: key };
}

/** To a program in Go, as the other plugins are, a key with the zero of its type is one that is not there. */
function saysNothing(value: unknown): boolean {
  return value === "" || value === 0;
}

function isTheirs(key: string, fate: { table: string; name: string }, { type }: OtherPlugin): boolean {
  return type !== "libvirt" && (fate.table === "source" || fate.name !== key || key === MAX_INSTANCES);
}

/** Theirs may be any text; ours is part of names. */
function groupOf(name: unknown): unknown {
  if (typeof name !== "string" || groupName.safeParse(name).success) return name;
  const readable = name.replaceAll(/[^A-Za-z0-9._-]+/g, "-").slice(0, 40);
  return `${readable}-${createHash("sha256").update(name).digest("hex").slice(0, 8)}`;
}

/** What `table` itself has by that name, and not every object. */
function own<Value>(table: Readonly<Record<string, Value>>, key: string): Value | undefined {
  return Object.hasOwn(table, key) ? table[key] : undefined;
}

function wrongFixed(input: Input, fixed: OtherPlugin["fixed"]): Finding[] {
  return Object.entries(fixed)
    .filter(([key, { value }]) => key in input && input[key] !== value)
    .map(([key, { value, why }]) => ({
      path: [key],
      text: `must be ${describeValue(value)}, but this is ${describeValue(input[key])}: ${why}; leave it out`,
    }));
}

function inTheirWords({ path, text }: Finding, names: OtherPlugin["names"]): Finding {
  const [first, ...others] = path;
  const [theirs] = Object.entries(names).find(([, name]) => name === first) ?? [first];
  return { path: theirs === undefined ? path : [theirs, ...others], text };
}
