/** Makes a running pool of local VMs out of its configuration. */
import { access, constants } from "node:fs/promises";
import { loadTemplates } from "../cloudinit/templates.ts";
import type { Config, PoolConfig } from "../config/types.ts";
import { FleetingdError } from "../errors.ts";
import { ensureDirectory } from "../host/files.ts";
import { ensureBaseImage } from "../images/select.ts";
import type { Logger } from "../log.ts";
import { detectForeignFirewalls } from "../network/foreign-firewalls.ts";
import { findSubnetOverlap, resolveEgressInterface } from "../network/host-check.ts";
import type { Journal } from "../pool/journal.ts";
import type { Limiter } from "../pool/limiter.ts";
import { Pool } from "../pool/pool.ts";
import { GoldenImages } from "../sources/local/golden-images.ts";
import type { LocalHost } from "../sources/local/host.ts";
import { LocalSource } from "../sources/local/local.ts";
import { imageOf } from "./base-images.ts";
import { checkMemory, type HostFacts } from "./local-host.ts";

export interface LocalPool {
  pool: Pool;
  images: GoldenImages;
}

export interface LocalPoolContext {
  config: Config;
  host: LocalHost;
  facts: HostFacts;
  journal: Journal;
  limits: { creates: Limiter; deletes: Limiter };
  logger: Logger;
}

/** @throws FleetingdError INVALID_CONFIG, PERMISSION: what the host says against this configuration */
export async function createLocalPool(
  name: string,
  pool: PoolConfig,
  context: LocalPoolContext,
): Promise<LocalPool> {
  const { config, host, facts } = context;
  const logger = context.logger.child({ pool: name });
  checkMemory(name, pool);
  await checkDiskDirectory(name, pool.diskDirectory);
  const egressInterface = await checkNetwork(name, pool, logger);
  const image = imageOf(config, name, pool.image);
  const machine = {
    vcpus: pool.vcpus,
    memoryMiB: pool.memoryMiB,
    console: pool.enableVirtioConsole ? ("virtio" as const) : ("serial" as const),
    subnet: pool.subnet,
    egressInterface,
    dnsServers: pool.dnsServers.length > 0 ? pool.dnsServers : facts.dnsServers,
  };
  const images = new GoldenImages({
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
    },
    templates: await loadTemplates(),
    machine: { ...machine, timeoutMs: pool.prebuildTimeoutMs },
    logger,
  });
  const source = new LocalSource({
    ...machine,
    host,
    images,
    diskDirectory: pool.diskDirectory,
    bootProfile: pool.bootProfile,
    bootTimeoutMs: pool.bootTimeoutMs,
    logger,
  });
  return {
    images,
    pool: new Pool({
      ...context,
      name,
      warmInstances: pool.warmInstances,
      maxInstances: pool.maxInstances,
      source,
    }),
  };
}

async function checkDiskDirectory(name: string, directory: string): Promise<void> {
  try {
    await ensureDirectory(directory, 0o711);
    await access(directory, constants.W_OK | constants.X_OK);
  } catch (error) {
    throw new FleetingdError("PERMISSION", `pool ${name}: vm_disk_directory ${directory} is not writable`, {
      hint: "Name a directory on a writable file system with room for images and clones.",
      cause: error,
    });
  }
}

async function checkNetwork(name: string, pool: PoolConfig, logger: Logger): Promise<string | undefined> {
  const overlap = await findSubnetOverlap(pool.subnet);
  if (overlap !== undefined) {
    throw new FleetingdError("INVALID_CONFIG", `pool ${name}: ${overlap}`, {
      hint: "Set vm_subnet to a private prefix that the host does not use.",
    });
  }
  const egress = await resolveEgressInterface(pool.egressInterface);
  if (egress.problem !== undefined) logger.warn(egress.problem);
  for (const advice of await detectForeignFirewalls(pool.subnet)) logger.warn(advice);
  return egress.interface;
}
