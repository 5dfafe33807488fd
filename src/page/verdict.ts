/** The daemon's state in a glance: pure. */
import type { PoolStatus } from "../api/status.ts";
import { formatAge } from "../api/text.ts";

export type Level = "good" | "busy" | "bad";

export interface Verdict {
  level: Level;
  /** A few words. */
  title: string;
  /** What is the case in each pool that is not as it should be. */
  reasons: { pool: string; text: string }[];
}

/** `busy`: on its way to what it should be, or held by somebody; `bad`: somebody should look. */
export function levelOf(pool: PoolStatus): Level {
  const isFailing = pool.sources.some(({ state }) => state === "failing");
  const lacksImage = pool.prebuild.state === "failed" && pool.goldenImage === null;
  if (pool.counts.failed || pool.lastError !== null || isFailing || lacksImage) return "bad";
  return pool.why === null && !pool.draining ? "good" : "busy";
}

export function verdictOf(pools: readonly PoolStatus[]): Verdict {
  const levels = pools.map(levelOf);
  const reasons = pools.flatMap((pool) => {
    const text = reasonOf(pool);
    return text === undefined ? [] : [{ pool: pool.name, text }];
  });
  if (pools.length === 0) return { level: "busy", title: "There is no pool", reasons };
  const bad = pools.filter((_, index) => levels[index] === "bad");
  if (bad.length > 0)
    return { level: "bad", title: `${names(bad)} ${bad.length === 1 ? "needs" : "need"} attention`, reasons };
  const draining = pools.filter((pool) => pool.draining);
  if (draining.length > 0) return { level: "busy", title: `${names(draining)} being drained`, reasons };
  const busy = pools.filter((_, index) => levels[index] === "busy");
  if (busy.length > 0) return { level: "busy", title: `${names(busy)}: VMs are on their way`, reasons };
  return { level: "good", title: "All is as it should be", reasons };
}

function names(pools: readonly PoolStatus[]): string {
  return pools.map(({ name }) => name).join(", ");
}

/** As `fleetingd why` says it. */
function reasonOf({ why, warm, lastError, retryInSeconds }: PoolStatus): string | undefined {
  if (why !== null) return `${warm.actual} of ${warm.desired} warm VMs are ready, because ${why}`;
  if (lastError === null) return undefined;
  return retryInSeconds > 0 ? `${lastError} (next try in ${formatAge(retryInSeconds)})` : lastError;
}
