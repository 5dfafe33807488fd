/** Whether the clouds of the configuration answer, and have what instances are to be made of. */
import type { Config, SourceConfig } from "../config/types.ts";
import { openCloud } from "../daemon/clouds.ts";
import { silentLogger } from "../log.ts";
import { type Check, type Finding, failure, ok } from "./finding.ts";

/** Nobody's: what is asked for is only whether there is an answer. */
const NOBODY = { daemon: "doctor", pool: "doctor" };
const REQUESTS = 4;
const REMEDY =
  "Check that the server runs and can be reached from here; compare the source's keys with the page of docs/ on its type.";

export function sourceChecks({ sources }: Pick<Config, "sources">): Check[] {
  return Object.entries(sources).map(([name, config]) => ({
    area: "source",
    look: async () => [await askSource(name, config)],
  }));
}

async function askSource(name: string, config: SourceConfig): Promise<Finding> {
  try {
    const cloud = await openCloud(config, silentLogger);
    try {
      const signal = AbortSignal.timeout(REQUESTS * config.requestTimeoutMs);
      await cloud.list(NOBODY, signal);
      await cloud.examine?.(signal);
      return ok(`source ${name}: ${cloud.description} answers`);
    } finally {
      await cloud.close?.();
    }
  } catch (error) {
    const { message, ...finding } = failure(error, REMEDY);
    return { ...finding, message: `source ${name}: ${message}` };
  }
}
