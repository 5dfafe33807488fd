/** Makes this host a source of a pool's VMs, as its configuration says. */
import { loadTemplates } from "../cloudinit/templates.ts";
import type { Config, PoolConfig } from "../config/types.ts";
import type { EventSink } from "../events.ts";
import { ensureBaseImage } from "../images/select.ts";
import type { Logger } from "../log.ts";
import { detectForeignFirewalls } from "../network/foreign-firewalls.ts";
import { resolveEgressInterface } from "../network/host-check.ts";
import { type LocalService, SERVICE_ADDRESS, serviceUrl } from "../network/services.ts";
import type { Journal } from "../pool/journal.ts";
import type { Limiter } from "../pool/limiter.ts";
import { GoldenImages } from "../sources/local/golden-images.ts";
import { LocalSource } from "../sources/local/local.ts";
import { Snapshots } from "../sources/local/snapshots.ts";
import { imageOf } from "./base-images.ts";
import type { NamedPool } from "./host-checks.ts";
import type { HostFacts, OnDemandHost } from "./local-host.ts";
import { policyOf, servicesOf } from "./pool-policy.ts";

export interface LocalPoolContext {
  config: Config;
  /** What plugins of an earlier daemon described. */
  inline: readonly NamedPool[];
  local: OnDemandHost;
  journal: Journal;
  limits: { creates: Limiter; deletes: Limiter };
  logger: Logger;
  events: EventSink;
}

/** `checkPools` has said that the host can have it. @throws FleetingdError INVALID_CONFIG */
export async function createLocalSource(
  name: string,
  pool: PoolConfig,
  context: LocalPoolContext,
): Promise<{ source: LocalSource; images: GoldenImages; snapshots: Snapshots }> {
  const { config } = context;
  const { host, facts } = await context.local.open();
  const logger = context.logger.child({ pool: name });
  await host.fabric.setPolicy(policyOf(name, pool, config.services));
  const services = servicesOf(pool, config.services);
  const egressInterface = await findEgress(pool, logger);
  const image = imageOf(config, name, pool.image);
  const machine = {
    vcpus: pool.vcpus,
    memoryMiB: pool.memoryMiB,
    limits: {
      memoryOverheadMiB: pool.memoryOverheadMiB,
      cpuWeight: pool.cpuWeight,
      cpuPercent: pool.cpuLimitPercent,
      diskMiBPerSecond: pool.diskMiBPerSecond,
      diskOperationsPerSecond: pool.diskOperationsPerSecond,
    },
    console: pool.enableVirtioConsole ? ("virtio" as const) : ("serial" as const),
    subnet: pool.subnet,
    subnet6: pool.subnet6,
    egressInterface,
    dnsServers: resolversOf(pool, services, facts),
  };
  const snapshots = new Snapshots({
    ...{ host, logger, machine: { ...machine, bootTimeoutMs: pool.bootTimeoutMs } },
    ...{ diskDirectory: pool.diskDirectory, mode: pool.cloneMode, bootProfile: pool.bootProfile },
  });
  const images = new GoldenImages({
    pool: name,
    events: context.events,
    host,
    diskDirectory: pool.diskDirectory,
    diskSizeGiB: pool.diskSizeGiB,
    baseKey: JSON.stringify(image),
    ensureBase: (signal, onProgress) =>
      ensureBaseImage(image, { diskDirectory: pool.diskDirectory, signal, onProgress, logger }),
    prebuild: {
      bootProfile: pool.bootProfile,
      extraCommands: pool.prebuildExtraCommands,
      packageUpdate: pool.prebuildPackageUpgrade || pool.prebuildPackages.length > 0,
      packageUpgrade: pool.prebuildPackageUpgrade,
      packages: pool.prebuildPackages,
      registryMirror: serviceUrl(services, "registry_mirror"),
      packageCache: serviceUrl(services, "package_cache"),
    },
    templates: await loadTemplates(),
    makeSnapshot: (golden, onStep) => snapshots.make(golden, onStep),
    machine: { ...machine, timeoutMs: pool.prebuildTimeoutMs },
    logger,
  });
  await images.recall();
  await snapshots.recall(images.status.current);
  const source = new LocalSource({
    ...machine,
    policy: name,
    host,
    images,
    snapshots,
    diskDirectory: pool.diskDirectory,
    bootProfile: pool.bootProfile,
    bootTimeoutMs: pool.bootTimeoutMs,
    idleMode: pool.idleMode,
    logger,
  });
  return { source, images, snapshots };
}

function resolversOf(
  pool: PoolConfig,
  services: readonly LocalService[],
  facts: HostFacts,
): readonly string[] {
  if (pool.dnsServers.length > 0) return pool.dnsServers;
  return services.some(({ name }) => name === "dns") ? [SERVICE_ADDRESS] : facts.dnsServers;
}

/** What is to be said about it is said now; which interface `auto` means is the fabric's business. */
async function findEgress(pool: PoolConfig, logger: Logger): Promise<string | undefined> {
  const egress = await resolveEgressInterface(pool.egressInterface);
  if (egress.problem !== undefined) logger.warn(egress.problem);
  for (const advice of await detectForeignFirewalls(pool.subnet)) logger.warn(advice);
  return pool.egressInterface === "auto" ? "auto" : egress.interface;
}
