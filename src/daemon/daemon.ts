/**
 * The daemon: its pools by name, and what its interface needs of them. It is built once, in the order host → pools of
 * the configuration and those that plugins left behind → adoption of their VMs → socket.
 */
import { availableParallelism } from "node:os";
import { Groups } from "../api/groups.ts";
import { startApiServer } from "../api/server.ts";
import { createDaemonService } from "../api/service.ts";
import type { Config } from "../config/types.ts";
import { isLeftOver } from "../host/leftover-socket.ts";
import type { LogEntry, Logger } from "../log.ts";
import { createMetrics, type Metrics } from "../metrics/metrics.ts";
import { startMetricsServer } from "../metrics/server.ts";
import { createJournal } from "../pool/journal.ts";
import { createLimiter } from "../pool/limiter.ts";
import { NO_TELEMETRY, startTelemetry } from "../telemetry/telemetry.ts";
import { PageServer } from "../web/server.ts";
import { startClockWatch } from "./clock-watch.ts";
import { Clouds, readDaemonId } from "./clouds.ts";
import type { DaemonPoolContext } from "./daemon-pool.ts";
import { createEventHub, type EventHub } from "./event-hub.ts";
import { createFacade, pageActions, pageFacts } from "./facade.ts";
import { createEventHistory, createLogHistory, type History } from "./history.ts";
import { checkHost, checkPools, needsHost } from "./host-checks.ts";
import { lockHost } from "./host-lock.ts";
import { ImageCollector } from "./image-collector.ts";
import { ImageRefresher } from "./image-refresher.ts";
import { loadInlinePools } from "./inline-pools.ts";
import { OnDemandHost, openLocalHost } from "./local-host.ts";
import { takeSnapshot } from "./metrics-snapshot.ts";
import { startOrphanWatch } from "./orphans.ts";
import { PoolRegistry } from "./pool-registry.ts";
import { checkVmUsers } from "./vm-users.ts";

export interface Daemon {
  /** Takes over what may change while it works. @returns a sentence for each thing that may not */
  reload(config: Config): Promise<string[]>;
  /** Why it seems to hang, or undefined. */
  readonly hang: string | undefined;
  /** Ends the interface and the pools' drivers; VMs live on, unless `removeVms`. */
  stop(options: { removeVms: boolean }): Promise<void>;
}

const REMOVE_TIMEOUT_MS = 120_000;

/**
 * @param logs what was logged before, and where `logger` puts what follows
 * @throws FleetingdError: what the host or another daemon has against it; nothing is left then
 */
export async function startDaemon(
  config: Config,
  version: string,
  logger: Logger,
  logs: History<LogEntry> = createLogHistory(),
): Promise<Daemon> {
  await isLeftOver(config.daemon.socketPath);
  if (needsHost(Object.values(config.pools))) {
    await checkHost();
    await checkVmUsers(config.daemon.vmUsers);
  }
  await checkPools(Object.entries(config.pools), []);
  const unlock = await lockHost(config.daemon.stateDirectory);
  try {
    return await start(config, version, logger, logs, unlock);
  } catch (error) {
    await unlock();
    throw error;
  }
}

async function start(
  config: Config,
  version: string,
  logger: Logger,
  logs: History<LogEntry>,
  unlock: () => Promise<void>,
): Promise<Daemon> {
  const startedAt = performance.now();
  const hub = createEventHub();
  const events = createEventHistory(hub);
  const context = await openContext(config, logger, hub);
  const { local } = context;
  const pools = new PoolRegistry(context);
  const groups = new Groups();
  const about = () => ({ version, ...local.description });
  const metrics = createMetrics(() => {
    const { unreadableRecords } = pools;
    return takeSnapshot({ ...about(), pools: pools.all(), unreadableRecords, plugins: groups.count });
  });
  hub.subscribe(metrics.observe);
  let stopMetrics = async (): Promise<void> => undefined;
  let telemetry = NO_TELEMETRY;
  let page: PageServer | undefined;
  try {
    telemetry = await startTelemetry({ env: process.env, version, collect: metrics.collect, logger });
    hub.subscribe(telemetry.observe);
    await pools.open();
    const collector = new ImageCollector({
      ...context,
      pools: () => pools.local(),
      intervalMs: config.daemon.imagesGcIntervalMs,
    });
    const refresher = new ImageRefresher(
      () => pools.local(),
      () => collector.collectQuietly(),
      logger,
    );
    const kept = { metrics, hub, events, logs, logger };
    const parts = { version, about, startedAt, pools, collector, refresher, ...kept };
    const facade = createFacade(parts, (address) => page?.serveAlso(address));
    stopMetrics = await serveMetrics(config, metrics, logger);
    const seen = { facts: pageFacts(parts, facade), actions: pageActions(parts) };
    page = new PageServer({ ...config.daemon, ...seen, logger });
    await page.start();
    const service = createDaemonService(facade, groups, logger);
    const api = await startApiServer({ ...config.daemon, logger, service });
    collector.start();
    refresher.start();
    const stopOrphanWatch = startOrphanWatch(groups, () => pools.all(), logger);
    const stopClockWatch = startClockWatch(logger);
    logger.info("the daemon is ready", { socket: config.daemon.socketPath, pools: pools.names() });
    return {
      reload: (next) => pools.reload(next),
      get hang() {
        return pools.hang;
      },
      async stop({ removeVms }) {
        stopOrphanWatch();
        stopClockWatch();
        await Promise.all([refresher.stop(), collector.stop(), stopMetrics(), page?.close()]);
        if (removeVms) await Promise.all(pools.all().map(({ pool }) => pool.clear(REMOVE_TIMEOUT_MS)));
        await api.close();
        await pools.stop();
        await telemetry.stop();
        const fabric = local.opened?.host.fabric;
        await (removeVms ? fabric?.close() : fabric?.release());
        await unlock();
      },
    };
  } catch (error) {
    await stopMetrics();
    await page?.close();
    await pools.stop();
    await telemetry.stop();
    // Rules stay for as long as there are VMs behind them.
    const fabric = local.opened?.host.fabric;
    if ((await fabric?.listTaps())?.length === 0) await fabric?.close();
    throw error;
  }
}

async function serveMetrics(
  { daemon: { metricsListen: listen } }: Config,
  metrics: Metrics,
  logger: Logger,
): Promise<() => Promise<void>> {
  if (listen === undefined) return async () => undefined;
  const server = await startMetricsServer({ listen, metrics, logger });
  return () => server.close();
}

async function openContext(config: Config, logger: Logger, hub: EventHub): Promise<DaemonPoolContext> {
  const inline = await loadInlinePools(config, logger);
  const all = [...Object.entries(config.pools), ...inline];
  const { maxConcurrentCreates, maxConcurrentDeletes } = config.daemon;
  return {
    config,
    inline,
    local: new OnDemandHost(() => openLocalHost(config, all, logger)),
    clouds: new Clouds(await readDaemonId(config.daemon.stateDirectory), logger),
    journal: createJournal(config.daemon.stateDirectory),
    limits: {
      creates: createLimiter(maxConcurrentCreates === "auto" ? availableParallelism() : maxConcurrentCreates),
      deletes: createLimiter(maxConcurrentDeletes),
    },
    logger,
    events: hub.emit,
  };
}
