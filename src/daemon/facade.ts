/** What the daemon's interface, and its web page, are told of it. */

import type { LoggedEvent } from "../api/events.ts";
import type { DaemonFacade } from "../api/service.ts";
import type { ListenAddress } from "../config/values.ts";
import type { LogEntry } from "../log.ts";
import type { Metrics } from "../metrics/metrics.ts";
import { readConnectionTable } from "../network/conntrack.ts";
import type { DaemonFacts } from "../web/facts.ts";
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
    prebuild: (request, onProgress) => pools.prebuild(request, onProgress),
    drain: (request, onProgress) => pools.drain(request, onProgress),
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
