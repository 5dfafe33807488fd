/** Tells when the kernel's table of connections, one for the host and all VMs, is nearly full. */
import type { Logger } from "../log.ts";
import { readConnectionTable } from "./conntrack.ts";

/** Below this it counts as emptied: not at every packet more or less. */
const EMPTIED_SHARE = 0.7;

/** A function that looks, and logs only what has changed. */
export function createConntrackWatch(logger: Logger): () => void {
  let wasFull = false;
  return () => {
    const table = readConnectionTable();
    if (table === undefined) return;
    const { entries: connections, limit } = table;
    const isFull = wasFull ? connections >= limit * EMPTIED_SHARE : table.isNearlyFull;
    if (isFull === wasFull) return;
    wasFull = isFull;
    const fields = { connections, limit };
    if (!isFull) logger.info("the kernel's table of connections has room again", fields);
    else {
      const hint = "raise net.netfilter.nf_conntrack_max, or lower max_connections of pools";
      logger.warn("the kernel's table of connections is nearly full: new ones may fail", { ...fields, hint });
    }
  };
}
