/** Makes a running pool out of its configuration: the sources that it names, and the pool that asks them. */
import type { Config, PoolConfig, PoolSource } from "../config/types.ts";
import { createLimiter } from "../pool/limiter.ts";
import { Pool } from "../pool/pool.ts";
import { CompositeSource } from "../sources/composite/composite.ts";
import type { Part } from "../sources/composite/member.ts";
import type { GoldenImages } from "../sources/local/golden-images.ts";
import type { Snapshots } from "../sources/local/snapshots.ts";
import { LOCAL } from "../sources/source.ts";
import type { Clouds } from "./clouds.ts";
import { createLocalSource, type LocalPoolContext } from "./local-pool.ts";

const UNLIMITED = Number.MAX_SAFE_INTEGER;

export interface DaemonPool {
  config: PoolConfig;
  pool: Pool;
  /** What its VMs on this host are made of; undefined if it has none here. */
  images: GoldenImages | undefined;
  snapshots: Snapshots | undefined;
}

/** A pool with VMs on this host. */
export interface LocalPool extends DaemonPool {
  images: GoldenImages;
  snapshots: Snapshots;
}

export function isLocal(pool: DaemonPool): pool is LocalPool {
  return pool.images !== undefined && pool.snapshots !== undefined;
}

export interface DaemonPoolContext extends LocalPoolContext {
  clouds: Clouds;
}

/**
 * `checkPools` has said that the host can have it.
 * @param former Names of sources that instances of the pool are still at, and that its configuration may not name any more.
 * @throws FleetingdError INVALID_CONFIG
 */
export async function createPool(
  name: string,
  config: PoolConfig,
  context: DaemonPoolContext,
  former: readonly string[] = [],
): Promise<DaemonPool> {
  const names = config.sources.map((source) => source.name);
  const left = former.filter((source) => !names.includes(source));
  let images: GoldenImages | undefined;
  let snapshots: Snapshots | undefined;
  const parts: Part[] = [];
  for (const source of [...config.sources, ...left.flatMap((one) => formerSource(one, context.config))]) {
    const part = await createPart(name, config, source, context);
    parts.push(part);
    images ??= part.images;
    snapshots ??= part.snapshots;
  }
  const [only] = parts;
  const shared = { ...context, name, settings: config };
  if (only !== undefined && parts.length === 1 && left.length === 0) {
    return { config, images, snapshots, pool: new Pool({ ...shared, ...only }) };
  }
  const logger = context.logger.child({ pool: name });
  const source = new CompositeSource({ parts, warmInstances: () => pool.settings.warmInstances, logger });
  // Its parts have limits of their own.
  const limits = { creates: createLimiter(UNLIMITED), deletes: createLimiter(UNLIMITED) };
  const pool: Pool = new Pool({ ...shared, source, limits });
  return { config, images, snapshots, pool };
}

async function createPart(
  name: string,
  config: PoolConfig,
  wanted: PoolSource,
  context: DaemonPoolContext,
): Promise<Part & { images?: GoldenImages; snapshots?: Snapshots }> {
  const { maxInstances, warmInstances } = wanted;
  if (wanted.config === undefined) {
    const { source, images, snapshots } = await createLocalSource(name, config, context);
    const { limits } = context;
    const share = { maxInstances, warmInstances, costPerHour: 0 };
    return { source, images, snapshots, limits, type: LOCAL, ...share };
  }
  const { type, costPerHour } = wanted.config;
  const remote = await context.clouds.source(name, { ...wanted, config: wanted.config });
  return { ...remote, type, maxInstances, warmInstances, costPerHour };
}

/** It makes no more instances. Of one whose section is gone nothing can be made. */
function formerSource(name: string, { sources }: Config): PoolSource[] {
  const config = sources[name];
  if (name !== LOCAL && config === undefined) return [];
  return [{ name, config: name === LOCAL ? undefined : config, maxInstances: 0, warmInstances: 0 }];
}
