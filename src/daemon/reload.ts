/** What a changed configuration means for a daemon that runs: what it can take over, and what only a restart can. */
import { isDeepStrictEqual } from "node:util";
import { changedDaemonKeys } from "../config/daemon-keys.ts";
import { POOL_FIELDS, type PoolKey } from "../config/pool-keys.ts";
import { changedKeys } from "../config/rename.ts";
import type { Config, PoolConfig } from "../config/types.ts";
import type { NamedPool } from "./host-checks.ts";
import { POLICY_FIELDS } from "./pool-policy.ts";

export interface Changes {
  added: NamedPool[];
  /** Pools whose live settings may differ; everything else of theirs is as before. */
  kept: NamedPool[];
  /** Names of pools that are gone. */
  removed: string[];
  /** A sentence for each thing that needs a restart. */
  notes: string[];
}

/** Keys of a pool that take effect at once; the others are built into its images, its VMs or its network. */
const LIVE: ReadonlySet<string> = new Set<keyof PoolConfig>([
  "warmInstances",
  "maxInstances",
  "maxIdleAgeMs",
  "heartbeatTimeoutMs",
  "orphanTimeoutMs",
  "prebuildIntervalMs",
  ...POLICY_FIELDS,
]);

export function compareConfigs(current: Config, next: Config): Changes {
  const changes: Changes = { added: [], kept: [], removed: [], notes: [] };
  const note = (what: string, keys: readonly string[]): void => {
    const verb = keys.length === 1 ? "has" : "have";
    if (keys.length > 0)
      changes.notes.push(`${what}: ${keys.join(", ")} ${verb} changed, which takes effect with a restart`);
  };
  note("[daemon]", changedDaemonKeys(current.daemon, next.daemon));
  note("[services]", changedNames(byName(current.services), byName(next.services)));
  note("[sources]", changedNames(current.sources, next.sources));
  for (const [name, pool] of Object.entries(next.pools)) {
    const before = current.pools[name];
    if (before === undefined) {
      changes.added.push([name, pool]);
      continue;
    }
    const { live, fixed } = changesOf(before, pool);
    // The image that a pool names may mean another one now.
    if (!isDeepStrictEqual(current.images[before.image], next.images[pool.image])) fixed.push("image");
    note(`pool ${name}`, fixed);
    changes.kept.push([name, { ...before, ...live }]);
  }
  for (const name of Object.keys(current.pools)) {
    if (next.pools[name] !== undefined) continue;
    changes.removed.push(name);
    changes.notes.push(
      `pool ${name} is not configured any more: it makes no VMs, and ends with its last job`,
    );
  }
  return changes;
}

/** What takes effect at once, and the keys of what doesn't. */
function changesOf(before: PoolConfig, after: PoolConfig): { live: Partial<PoolConfig>; fixed: string[] } {
  const changed = changedKeys(before, after, POOL_FIELDS);
  const live = changed.map((key) => POOL_FIELDS[key as PoolKey]).filter((field) => LIVE.has(field));
  return {
    live: Object.fromEntries(live.map((field) => [field, after[field]])),
    fixed: changed.filter((key) => !LIVE.has(POOL_FIELDS[key as PoolKey])),
  };
}

const byName = <T extends { name: string }>(list: readonly T[]): Record<string, T> =>
  Object.fromEntries(list.map((one) => [one.name, one]));

function changedNames(
  before: Readonly<Record<string, unknown>>,
  after: Readonly<Record<string, unknown>>,
): string[] {
  const names = new Set([...Object.keys(before), ...Object.keys(after)]);
  return [...names].filter((name) => !isDeepStrictEqual(before[name], after[name]));
}
