/** Makes a running pool out of its configuration: the sources that it names, and the pool that asks them. */
import type { PoolConfig } from "../config/types.ts";
import { FleetingdError } from "../errors.ts";
import { Pool, type PoolOptions } from "../pool/pool.ts";
import type { GoldenImages } from "../sources/local/golden-images.ts";
import type { Clouds } from "./clouds.ts";
import { createLocalSource, type LocalPoolContext } from "./local-pool.ts";

export interface DaemonPool {
  config: PoolConfig;
  pool: Pool;
  /** What its VMs on this host are made of; undefined if it has none here. */
  images: GoldenImages | undefined;
}

/** A pool with VMs on this host. */
export interface LocalPool extends DaemonPool {
  images: GoldenImages;
}

export function isLocal(pool: DaemonPool): pool is LocalPool {
  return pool.images !== undefined;
}

export interface DaemonPoolContext extends LocalPoolContext {
  clouds: Clouds;
}

/** `checkPools` has said that the host can have it. @throws FleetingdError INVALID_CONFIG */
export async function createPool(
  name: string,
  config: PoolConfig,
  context: DaemonPoolContext,
): Promise<DaemonPool> {
  const [first, second] = config.sources;
  if (first === undefined || second !== undefined) {
    throw new FleetingdError("INVALID_CONFIG", `the pool ${name} must have one source`);
  }
  const shared = { ...context, name, settings: config };
  if (first.config !== undefined) {
    const remote = await context.clouds.source(name, { ...first, config: first.config });
    return { config, images: undefined, pool: new Pool({ ...shared, ...remote } satisfies PoolOptions) };
  }
  const { source, images } = await createLocalSource(name, config, context);
  return { config, images, pool: new Pool({ ...shared, source }) };
}
