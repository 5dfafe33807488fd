/** Which images nobody needs: a pure decision over what there is and who uses it. */
import { join } from "node:path";
import type { ImageInventory } from "./inventory.ts";

/** A pool that has its images in the directory. */
export interface PoolImages {
  /** The golden image that new VMs are made of; undefined if none was made yet. */
  current: string | undefined;
  /** The snapshot that new VMs go on from; undefined if they boot. */
  currentSnapshot?: string | undefined;
  /** Names of the base images that it was made of, and that the last prebuild found. */
  baseNames: readonly string[];
  /** The name of the file in `golden/` that remembers the current one. */
  pointerName: string;
}

export interface ImageUsage {
  pools: readonly PoolImages[];
  /** Names of the golden images that VMs are made of. */
  used: ReadonlySet<string>;
  /** Names of the snapshots that VMs go on from. */
  usedSnapshots: ReadonlySet<string>;
}

export interface Garbage {
  kind: "golden" | "base" | "snapshot" | "pointer" | "leftover";
  path: string;
}

/** What is younger is left alone: somebody may just have made it, whom we don't know of. */
export const GRACE_MS = 60 * 60_000;

/**
 * What can be removed, in an order in which a crash between two leaves nothing broken.
 *
 * A snapshot stays while a VM has gone on from it or it is a pool's current one, and with it the golden image that it was made of.
 * A golden image stays while a VM is made of it or it is a pool's current one; a base image while a pool's current golden
 * image was made of it, for the next one. While a pool has no golden image of its own yet, whatever was in use by
 * any configuration stays: an upgrade that is taken back finds it again.
 */
export function decideGarbage(
  inventory: ImageInventory,
  usage: ImageUsage,
  now = Date.now(),
  graceMs = GRACE_MS,
): Garbage[] {
  const { diskDirectory, golden, snapshots, bases, goldenPointers, basePointers, leftovers } = inventory;
  const isYoung = (time: Date): boolean => now - time.getTime() < graceMs;
  const at = (folder: string, name: string): string => join(diskDirectory, folder, name);
  const waiting = usage.pools.some(({ current }) => current === undefined);

  const ownPointers = new Set(usage.pools.map(({ pointerName }) => pointerName));
  const [keptPointers, stalePointers] = partition(
    goldenPointers,
    ({ name, modifiedAt }) => waiting || ownPointers.has(name) || isYoung(modifiedAt),
  );
  const neededSnapshots = new Set([
    ...usage.usedSnapshots,
    ...usage.pools.flatMap(({ currentSnapshot }) => currentSnapshot ?? []),
  ]);
  const [keptSnapshots, unusedSnapshots] = partition(
    snapshots,
    ({ name, createdAt }) => waiting || neededSnapshots.has(name) || isYoung(createdAt),
  );
  const neededGolden = new Set([
    ...usage.used,
    ...keptSnapshots.map(({ goldenImage }) => goldenImage),
    ...usage.pools.flatMap(({ current }) => current ?? []),
    ...keptPointers.flatMap(({ target }) => target ?? []),
  ]);
  const unusedGolden = golden.filter(({ name, createdAt }) => !neededGolden.has(name) && !isYoung(createdAt));

  const baseUnknown = usage.pools.some(({ baseNames }) => baseNames.length === 0);
  const neededBases = new Set(usage.pools.flatMap(({ baseNames }) => baseNames));
  const [keptBases, unusedBases] = partition(
    bases,
    ({ name, createdAt }) => baseUnknown || neededBases.has(name) || isYoung(createdAt),
  );
  const keptBaseNames = new Set(keptBases.map(({ name }) => name));
  const staleBasePointers = basePointers.filter(
    ({ target, modifiedAt }) =>
      target !== undefined && !keptBaseNames.has(target) && !isYoung(modifiedAt) && !baseUnknown,
  );

  return [
    ...stalePointers.map(({ name }): Garbage => ({ kind: "pointer", path: at("golden", name) })),
    ...staleBasePointers.map(({ name }): Garbage => ({ kind: "pointer", path: at("base", name) })),
    ...unusedSnapshots.map(({ directory }): Garbage => ({ kind: "snapshot", path: directory })),
    ...unusedGolden.map(({ directory }): Garbage => ({ kind: "golden", path: directory })),
    ...unusedBases.map(({ name }): Garbage => ({ kind: "base", path: at("base", name) })),
    ...leftovers
      .filter(({ modifiedAt }) => !isYoung(modifiedAt))
      .map(({ path }): Garbage => ({ kind: "leftover", path })),
  ];
}

function partition<T>(all: readonly T[], keep: (one: T) => boolean): [kept: T[], others: T[]] {
  return [all.filter(keep), all.filter((one) => !keep(one))];
}
