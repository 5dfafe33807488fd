/** What a changed configuration means for a daemon that runs: what it can take over, and what only a restart can. */
import { isDeepStrictEqual } from "node:util";
import { POOL_FIELDS } from "../config/pool-keys.ts";
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

/** What people call them. */
const KEYS: ReadonlyMap<string, string> = new Map(
  Object.entries(POOL_FIELDS).map(([key, field]) => [field, key]),
);

export function compareConfigs(current: Config, next: Config): Changes {
  const changes: Changes = { added: [], kept: [], removed: [], notes: [] };
  if (!isDeepStrictEqual(current.daemon, next.daemon)) {
    changes.notes.push("[daemon] has changed, which takes effect with a restart");
  }
  if (!isDeepStrictEqual(current.services, next.services)) {
    changes.notes.push("[services] has changed, which takes effect with a restart");
  }
  for (const [name, pool] of Object.entries(next.pools)) {
    const before = current.pools[name];
    if (before === undefined) {
      changes.added.push([name, pool]);
      continue;
    }
    const { live, fixed } = changedKeys(before, pool);
    // The image that a pool names may mean another one now.
    if (!isDeepStrictEqual(current.images[before.image], next.images[pool.image])) fixed.push("image");
    if (fixed.length > 0) {
      changes.notes.push(`pool ${name}: ${fixed.join(", ")} has changed, which takes effect with a restart`);
    }
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

function changedKeys(before: PoolConfig, after: PoolConfig): { live: Partial<PoolConfig>; fixed: string[] } {
  const changed = Object.entries(after).filter(
    ([key, value]) => !isDeepStrictEqual(value, before[key as keyof PoolConfig]),
  );
  return {
    live: Object.fromEntries(changed.filter(([key]) => LIVE.has(key))),
    fixed: changed.filter(([key]) => !LIVE.has(key)).map(([key]) => KEYS.get(key) ?? key),
  };
}
