/**
 * Pools that a plugin's own configuration described: kept as that configuration, so that a daemon that starts again
 * knows the pools of the VMs that it finds before their plugins have attached.
 */
import { join } from "node:path";
import { parsePluginConfig } from "../config/plugin-config.ts";
import type { Config, PoolConfig } from "../config/types.ts";
import { describeError } from "../errors.ts";
import { ensureDirectory, listDirectory, readTextIfExists, writeFileAtomic } from "../host/files.ts";
import type { Logger } from "../log.ts";

const SUFFIX = ".json";
const directoryOf = (config: Config): string => join(config.daemon.stateDirectory, "pools");

export async function saveInlinePool(config: Config, name: string, pluginConfigJson: string): Promise<void> {
  await ensureDirectory(directoryOf(config));
  await writeFileAtomic(join(directoryOf(config), `${name}${SUFFIX}`), pluginConfigJson);
}

/** Those that can still be understood; the others are reported and left where they are. */
export async function loadInlinePools(
  config: Config,
  logger: Logger,
): Promise<[name: string, pool: PoolConfig][]> {
  const pools: [string, PoolConfig][] = [];
  for (const file of await listDirectory(directoryOf(config))) {
    if (!file.endsWith(SUFFIX)) continue;
    const path = join(directoryOf(config), file);
    try {
      const { poolName, pool } = parsePluginConfig(await readTextIfExists(path), config);
      if (`${poolName}${SUFFIX}` === file) pools.push([poolName, pool]);
      else
        logger.warn("a pool that a plugin left means another one now and is left alone", {
          path,
          pool: poolName,
        });
    } catch (error) {
      logger.warn("a pool that a plugin left can't be used any more", { path, error: describeError(error) });
    }
  }
  return pools;
}
