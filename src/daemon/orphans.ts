/** Gives back instances whose plugin has been away for too long: nobody else would ever ask for their deletion. */
import type { Groups } from "../api/groups.ts";
import { messageOf } from "../errors.ts";
import type { Logger } from "../log.ts";
import type { Pool } from "../pool/pool.ts";
import type { DaemonPool } from "./daemon-pool.ts";

const CHECK_MS = 1_000;

/** @returns what ends it */
export function startOrphanWatch(
  groups: Pick<Groups, "isAttached">,
  pools: () => readonly Pick<DaemonPool, "pool" | "config">[],
  logger: Logger,
): () => void {
  /** Since when a group's plugin is away, in milliseconds of `performance.now()`; after a restart all begin anew. */
  const awaySince = new Map<string, number>();
  const checkGroup = async (pool: Pool, group: string, timeoutMs: number): Promise<void> => {
    if (groups.isAttached(group)) return void awaySince.delete(group);
    const since = awaySince.get(group) ?? performance.now();
    awaySince.set(group, since);
    if (timeoutMs === 0 || performance.now() - since < timeoutMs) return;
    const ids = pool.list(group).map(({ id }) => id);
    logger.warn("a plugin has been away for too long, so its instances are deleted", {
      stage: "CLEANUP",
      group,
      ids: ids.join(", "),
    });
    await pool.release(group, ids);
  };
  const check = async (): Promise<void> => {
    const owned = pools().flatMap(({ pool, config }) =>
      pool.groups().map((group) => ({ pool, group, timeoutMs: config.orphanTimeoutMs })),
    );
    for (const { pool, group, timeoutMs } of owned) await checkGroup(pool, group, timeoutMs);
    const current = new Set(owned.map(({ group }) => group));
    for (const group of awaySince.keys()) if (!current.has(group)) awaySince.delete(group);
  };
  let checking = false;
  const timer = setInterval(() => {
    if (checking) return;
    checking = true;
    check()
      .catch((error: unknown) => logger.error("orphans could not be released", { error: messageOf(error) }))
      .finally(() => {
        checking = false;
      });
  }, CHECK_MS);
  return () => clearInterval(timer);
}
