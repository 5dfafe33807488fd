/** What the daemon's interface, and its web page, are told of it, and may ask of it. */

import type { LoggedEvent } from "../api/events.ts";
import type { DaemonFacade } from "../api/service.ts";
import type { ListenAddress } from "../config/values.ts";
import type { DaemonEvent } from "../events.ts";
import type { LogEntry, Logger } from "../log.ts";
import type { Metrics } from "../metrics/metrics.ts";
import { readConnectionTable } from "../network/conntrack.ts";
import type { DaemonActions, DaemonFacts } from "../web/facts.ts";
import type { EventHub } from "./event-hub.ts";
import type { History } from "./history.ts";
import type { ImageCollector } from "./image-collector.ts";
import type { ImageRefresher } from "./image-refresher.ts";
import type { PoolRegistry } from "./pool-registry.ts";
import { daemonStatus, type StatusInput } from "./status.ts";

export interface DaemonParts {
  version: string;
  about(): Pick<StatusInput, "version" | "accelerator" | "hypervisor" | "confinement">;
  /** By `performance.now()`. */
  startedAt: number;
  pools: PoolRegistry;
  collector: ImageCollector;
  refresher: ImageRefresher;
  metrics: Metrics;
  hub: EventHub;
  events: History<LoggedEvent>;
  logs: History<LogEntry>;
  logger: Logger;
}

/** @param servePage called with where a runner wants the web page */
export function createFacade(
  parts: DaemonParts,
  servePage: (address: ListenAddress) => Promise<void> | undefined,
): DaemonFacade {
  const { version, about, startedAt, pools, collector, refresher, metrics, hub, events, logs } = parts;
  return {
    version,
    async poolFor(json) {
      const { debugListen, ...found } = await pools.forPlugin(json);
      if (debugListen !== undefined) await servePage(debugListen);
      return found;
    },
    status: async () =>
      daemonStatus({
        ...about(),
        uptimeMs: performance.now() - startedAt,
        connections: readConnectionTable(),
        pools: pools.all(),
        nextPrebuildIn: (pool) => refresher.nextIn(pool),
      }),
    images: () => collector.list(),
    collectGarbage: (request) => collector.collect(request),
    prebuild(request, onProgress) {
      tellAsked(parts, { action: "prebuild", by: "socket", pool: request.pool });
      return pools.prebuild(request, onProgress);
    },
    drain(request, onProgress) {
      tellAsked(parts, { action: request.held ? "drain" : "undo-drain", by: "socket" });
      return pools.drain(request, onProgress);
    },
    remove: (instance) => pools.remove(instance, "somebody removed it by the daemon's socket"),
    metrics: () => metrics.render(),
    onCall: metrics.observeCall,
    events: hub.emit,
    history: { events, logs },
  };
}

/** Keys of VMs are not among them. */
export function pageFacts({ pools, metrics, events }: DaemonParts, facade: DaemonFacade): DaemonFacts {
  return {
    status: () => facade.status(),
    images: () => facade.images(),
    distributions: () => metrics.distributions(),
    events,
    consolePath: (instance) => pools.consolePath(instance),
  };
}

/** Each answers when it is settled that it is done; what it takes goes on. */
export function pageActions(parts: DaemonParts): DaemonActions {
  const { pools } = parts;
  return {
    drain(held) {
      tellAsked(parts, { action: held ? "drain" : "undo-drain", by: "page" });
      return pools.setDrained(held);
    },
    prebuild(pool) {
      tellAsked(parts, { action: "prebuild", by: "page", pool });
      // Nobody in particular waits for it: its step and its end are told with its pool, and among the events.
      const request = { pool, force: true, signal: new AbortController().signal };
      return new Promise((resolve, reject) => {
        pools.prebuild(request, () => resolve()).then(resolve, reject);
      });
    },
    remove: (instance) => pools.remove(instance, "somebody removed it on the web page"),
  };
}

const ASKED = {
  drain: "it was asked to drain this host",
  "undo-drain": "it was asked to make VMs again",
  prebuild: "it was asked for a new golden image",
} as const;

function tellAsked(
  { hub, logger }: DaemonParts,
  { action, by, pool }: Omit<Extract<DaemonEvent, { kind: "asked" }>, "kind">,
): void {
  const about = pool === undefined || pool === "" ? {} : { pool };
  logger.info(ASKED[action], { by, ...about });
  hub.emit({ kind: "asked", action, by, ...about });
}
