/** Tells when the kernel's table of connections, one for the host and all VMs, is nearly full. */
import { readTextIfExists } from "../host/files.ts";
import type { Logger } from "../log.ts";

const COUNT = "/proc/sys/net/netfilter/nf_conntrack_count";
const LIMIT = "/proc/sys/net/netfilter/nf_conntrack_max";
const FULL_SHARE = 0.9;
/** Below this it counts as emptied: not at every packet more or less. */
const EMPTIED_SHARE = 0.7;

/** A function that looks, and logs only what has changed. */
export function createConntrackWatch(logger: Logger): () => Promise<void> {
  let wasFull = false;
  return async () => {
    const [connections, limit] = [await numberIn(COUNT), await numberIn(LIMIT)];
    // 0 is no limit; without the files nothing is tracked.
    if (connections === undefined || limit === undefined || limit === 0) return;
    const isFull = connections >= limit * (wasFull ? EMPTIED_SHARE : FULL_SHARE);
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

async function numberIn(path: string): Promise<number | undefined> {
  const text = await readTextIfExists(path);
  return text === undefined ? undefined : Number(text);
}
