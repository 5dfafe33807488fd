/**
 * The daemon: its pools by name, and what its interface needs of them. It is built once, in the order host → pools of
 * the configuration and those that plugins left behind → adoption of their VMs → socket.
 */
import { availableParallelism } from "node:os";
import { Groups } from "../api/groups.ts";
import { isLeftOver, startApiServer } from "../api/server.ts";
import { createDaemonService, type DaemonFacade } from "../api/service.ts";
import type { Config } from "../config/types.ts";
import type { Logger } from "../log.ts";
import { createJournal } from "../pool/journal.ts";
import { createLimiter } from "../pool/limiter.ts";
import { checkHost, checkPools } from "./host-checks.ts";
import { loadInlinePools } from "./inline-pools.ts";
import { openLocalHost } from "./local-host.ts";
import type { LocalPoolContext } from "./local-pool.ts";
import { PoolRegistry } from "./pool-registry.ts";
import { daemonStatus } from "./status.ts";

export interface Daemon {
  /** Ends the interface and the pools' drivers; VMs live on, unless `removeVms`. */
  stop(options: { removeVms: boolean }): Promise<void>;
}

const DRAIN_TIMEOUT_MS = 120_000;

export async function startDaemon(config: Config, version: string, logger: Logger): Promise<Daemon> {
  const startedAt = Date.now();
  await isLeftOver(config.daemon.socketPath);
  const configured = Object.entries(config.pools);
  await checkHost();
  await checkPools(configured, []);
  const inline = await loadInlinePools(config, logger);
  const all = [...configured, ...inline].map(([, pool]) => pool);
  const { host, facts } = await openLocalHost(config.daemon, all, logger);
  const { maxConcurrentCreates, maxConcurrentDeletes } = config.daemon;
  const context: LocalPoolContext = {
    config,
    host,
    facts,
    journal: createJournal(config.daemon.stateDirectory),
    limits: {
      creates: createLimiter(maxConcurrentCreates === "auto" ? availableParallelism() : maxConcurrentCreates),
      deletes: createLimiter(maxConcurrentDeletes),
    },
    logger,
  };
  const pools = new PoolRegistry(context);
  try {
    for (const [name, pool] of configured) await pools.add(name, pool);
    for (const [name, pool] of inline) await pools.tryAdd(name, pool);
    await pools.adopt();
    const facade: DaemonFacade = {
      version,
      poolFor: (json) => pools.forPlugin(json),
      status: () =>
        daemonStatus({
          version,
          startedAt,
          accelerator: facts.accelerator,
          hypervisor: host.hypervisor.description,
          pools: pools.all(),
        }),
      prebuild: (request, onProgress) => pools.prebuild(request, onProgress),
    };
    const service = createDaemonService(facade, new Groups(), logger);
    const api = await startApiServer({ ...config.daemon, logger, service });
    logger.info("the daemon is ready", { socket: config.daemon.socketPath, pools: pools.names() });
    return {
      async stop({ removeVms }) {
        if (removeVms) await Promise.all(pools.all().map(({ pool }) => pool.drain(DRAIN_TIMEOUT_MS)));
        await api.close();
        await pools.stop();
        if (removeVms) await host.fabric.close();
      },
    };
  } catch (error) {
    await pools.stop();
    // Rules stay for as long as there are VMs behind them.
    if ((await host.fabric.listTaps()).length === 0) await host.fabric.close();
    throw error;
  }
}
