/** The keys of a fleeting plugin that this one can stand in for: in `plugin_config` they describe a pool at that plugin's cloud. */
import { describeValue, type Finding } from "./explain.ts";
import { poolTable } from "./pool-keys.ts";
import { remoteKeys } from "./remote-keys.ts";
import { readSource, type SourceType, sourceTables } from "./source-keys.ts";
import type { SourceConfig } from "./types.ts";

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
  /** Keys of what is done here without being told: docs/ says how. */
  unneeded?: readonly string[];
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
    unneeded: ["max_concurrent_operations", "session_refresh_interval", "startup_cleanup_timeout"],
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
  },
];

/** What is the same in both: the pool's. */
const POOL_KEYS = new Set(Object.keys(poolTable.shape));

interface InlineSource {
  rest: Input;
  sources: Readonly<Record<string, SourceConfig>>;
  findings: readonly Finding[];
}

/**
 * Takes the keys of another plugin out of `input`.
 * @returns `rest`, which has keys of ours instead; `sources` has the one that it names
 */
export function takeInlineSource(input: Input): InlineSource | undefined {
  const plugin = PLUGINS.find(({ marker }) => Object.keys(input).some((key) => key.startsWith(marker)));
  if (plugin === undefined) return undefined;
  const { type, group, names, defaults, fixed, unneeded = [] } = plugin;
  const table = new Set(Object.keys(sourceTables[type].shape));
  // Another plugin's word for a key is the only one that counts: `image` beside `incus_image` is the pool's.
  const renamed = new Set(Object.values(names));
  const ours = (key: string): string | undefined => {
    if (Object.hasOwn(names, key)) return names[key];
    return table.has(key) && !POOL_KEYS.has(key) && !renamed.has(key) && key !== "type" ? key : undefined;
  };
  const source: Record<string, unknown> = { ...defaults, type };
  if (input["max_instances"] !== undefined) source["max_instances"] = input["max_instances"];
  const rest: Record<string, unknown> = { warm_instances: 0, sources: [`plugin-${type}`] };
  for (const [key, value] of Object.entries(input)) {
    const name = ours(key);
    if (name !== undefined) source[name] = value;
    else if (key === group) rest["group"] = input["group"] ?? value;
    else if (!Object.hasOwn(fixed, key) && !unneeded.includes(key)) rest[key] = value;
  }
  const findings = wrongFixed(input, fixed);
  const read = readSource(source);
  if ("source" in read) return { rest, sources: { [`plugin-${type}`]: read.source }, findings };
  return {
    rest,
    sources: {},
    findings: [...findings, ...read.findings.map((it) => inTheirWords(it, names))],
  };
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
