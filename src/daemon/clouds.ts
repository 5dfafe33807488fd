/** The clouds of the configuration: opened once each, whichever pools use them. */
import { randomUUID } from "node:crypto";
import { join } from "node:path";
import type { PoolSource, SourceConfig } from "../config/types.ts";
import { readTextIfExists, writeFileAtomic } from "../host/files.ts";
import type { Logger } from "../log.ts";
import { createLimiter, type Limiter } from "../pool/limiter.ts";
import { openIncus } from "../sources/incus/incus.ts";
import { openLibvirt } from "../sources/libvirt/libvirt.ts";
import { OpenStackCloud } from "../sources/openstack/openstack.ts";
import type { Cloud } from "../sources/remote/cloud.ts";
import { RemoteSource } from "../sources/remote/remote-source.ts";
import { VcdCloud } from "../sources/vcd/vcd.ts";

const ID_FILE = "daemon-id";

interface OpenCloud {
  cloud: Cloud;
  limits: { creates: Limiter; deletes: Limiter };
}

export class Clouds {
  readonly #daemonId: string;
  readonly #logger: Logger;
  readonly #open = new Map<string, Promise<OpenCloud>>();

  constructor(daemonId: string, logger: Logger) {
    this.#daemonId = daemonId;
    this.#logger = logger;
  }

  /** A pool's source at a cloud, and how many of its instances may begin and end at a time. */
  async source(
    pool: string,
    { name, config, maxInstances = config.maxInstances }: PoolSource & { config: SourceConfig },
  ): Promise<{ source: RemoteSource; limits: OpenCloud["limits"] }> {
    const { cloud, limits } = await this.#cloudOf(name, config);
    const source = new RemoteSource({
      name,
      type: config.type,
      owner: { daemon: this.#daemonId, pool },
      cloud,
      config: { ...config, maxInstances: Math.min(maxInstances, config.maxInstances) },
      logger: this.#logger.child({ pool, source: name }),
    });
    return { source, limits };
  }

  async close(): Promise<void> {
    const clouds = await Promise.allSettled(this.#open.values());
    await Promise.all(clouds.map((opened) => opened.status === "fulfilled" && opened.value.cloud.close?.()));
  }

  /** By its configuration, which names no instance: pools may share it. */
  #cloudOf(name: string, config: SourceConfig): Promise<OpenCloud> {
    const key = JSON.stringify([name, config]);
    const opening = this.#open.get(key) ?? this.#openCloud(name, config);
    this.#open.set(key, opening);
    // What could not be opened may be so the next time.
    opening.catch(() => this.#open.delete(key));
    return opening;
  }

  async #openCloud(name: string, config: SourceConfig): Promise<OpenCloud> {
    return {
      cloud: await openCloud(config, this.#logger.child({ source: name })),
      limits: {
        creates: createLimiter(config.maxConcurrentCreates),
        deletes: createLimiter(config.maxConcurrentDeletes),
      },
    };
  }
}

/** No server is asked yet: it may be away. @throws FleetingdError INVALID_CONFIG */
export async function openCloud(config: SourceConfig, logger: Logger): Promise<Cloud> {
  switch (config.type) {
    case "incus":
      return openIncus(config, logger);
    case "libvirt":
      return openLibvirt(config);
    case "openstack":
      return new OpenStackCloud({ config, environment: process.env });
    case "vcd":
      return new VcdCloud(config);
  }
}

/** What tells this daemon's machines from those of others at the same cloud: made once, and kept with the records. */
export async function readDaemonId(stateDirectory: string): Promise<string> {
  const path = join(stateDirectory, ID_FILE);
  const known = (await readTextIfExists(path))?.trim();
  if (known !== undefined && known !== "") return known;
  const id = randomUUID();
  await writeFileAtomic(path, `${id}\n`);
  return id;
}
