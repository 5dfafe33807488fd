/** `fleetingd fetch`: gets the base images of the configuration ahead of the daemon, which need not run. */
import { loadConfig } from "../config/load.ts";
import type { PoolConfig } from "../config/types.ts";
import { fetchBaseImage, imageOf } from "../daemon/base-images.ts";
import { interruptible } from "../host/interrupt.ts";
import { createLogger } from "../log.ts";
import { progressText } from "../sources/local/golden-images.ts";
import { chosenPools } from "./chosen-pools.ts";
import { type CliCommand, EXIT, type GlobalOptions } from "./context.ts";
import { createProgress } from "./progress.ts";

export interface FetchOptions extends GlobalOptions {
  /** Undefined: every pool. */
  pool?: string | undefined;
}

export const fetch: CliCommand<FetchOptions> = async (options, context) => {
  const { config } = await loadConfig(options.config);
  const logger = createLogger({ format: "text", level: "warn" });
  const fetchImage = async (name: string, pool: PoolConfig, signal: AbortSignal): Promise<void> => {
    const progress = createProgress(context);
    try {
      const base = await fetchBaseImage(imageOf(config, name, pool.image), {
        diskDirectory: pool.diskDirectory,
        signal,
        onProgress: (step) => progress.update(`${name}: ${progressText(step)}`),
        logger,
      });
      progress.end();
      context.out(base.name);
    } finally {
      progress.end();
    }
  };
  return interruptible(async (signal) => {
    for (const [name, pool] of chosenPools(config.pools, options.pool)) await fetchImage(name, pool, signal);
    return EXIT.ok;
  });
};
