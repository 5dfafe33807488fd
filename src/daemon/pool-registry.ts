/** The daemon's pools by name: those of its configuration, and those that plugins describe. */
import { type PluginPool, parsePluginConfig } from "../config/plugin-config.ts";
import type { PoolConfig } from "../config/types.ts";
import { describeError, FleetingdError } from "../errors.ts";
import type { InstanceRecord } from "../pool/instance.ts";
import { sweepLocalHost } from "../sources/local/sweep.ts";
import { checkPools, type NamedPool } from "./host-checks.ts";
import { saveInlinePool } from "./inline-pools.ts";
import { createLocalPool, type LocalPool, type LocalPoolContext } from "./local-pool.ts";

export class PoolRegistry {
  readonly #context: LocalPoolContext;
  readonly #pools = new Map<string, LocalPool>();
  readonly #adding = new Map<string, Promise<LocalPool>>();

  constructor(context: LocalPoolContext) {
    this.#context = context;
  }

  all(): LocalPool[] {
    return [...this.#pools.values()];
  }

  #named(): NamedPool[] {
    return [...this.#pools].map(([name, { config }]) => [name, config]);
  }

  names(): string {
    return [...this.#pools.keys()].join(", ");
  }

  async add(name: string, config: PoolConfig): Promise<void> {
    this.#pools.set(name, await createLocalPool(name, config, this.#context));
  }

  /** For a pool that only a plugin knows of: it will hear of the error when it attaches. */
  async tryAdd(name: string, config: PoolConfig): Promise<void> {
    try {
      await checkPools([[name, config]], this.#named());
      await this.add(name, config);
    } catch (error) {
      this.#context.logger.error("a pool that a plugin left can't be used", {
        pool: name,
        error: describeError(error),
      });
    }
  }

  /** Hands every record to its pool and starts the pools. */
  async adopt(): Promise<void> {
    const { journal, logger } = this.#context;
    const { records, unreadable } = await journal.load();
    for (const { path, reason } of unreadable)
      logger.error("a record could not be read and is left alone", { path, reason });
    await this.#sweep(records, unreadable.length);
    const strangers = records.filter((record) => !this.#pools.has(record.pool));
    for (const { id, pool } of strangers) {
      logger.error("an instance belongs to a pool that is not configured any more and is left alone", {
        instance: id,
        pool,
      });
    }
    const of = (name: string): InstanceRecord[] => records.filter((record) => record.pool === name);
    await Promise.all(this.all().map(({ pool }) => pool.start(of(pool.name))));
  }

  async #sweep(records: readonly InstanceRecord[], unreadable: number): Promise<void> {
    const { config, host, journal, logger } = this.#context;
    // What such a record names is not known, so nothing is nobody's.
    if (unreadable > 0)
      return logger.warn("leftovers are not looked for while a record can't be read", { unreadable });
    const stored = records.map(({ id, data }) => ({ id, data, directory: journal.directoryOf(id) }));
    const diskDirectories = Object.values(config.pools).map((pool) => pool.diskDirectory);
    await sweepLocalHost(host, stored, diskDirectories, logger);
  }

  /** Ends the drivers; VMs live on. */
  async stop(): Promise<void> {
    await Promise.all(this.all().flatMap(({ pool, images }) => [images.stop(), pool.stop()]));
  }

  async forPlugin(json: string): Promise<{ pool: LocalPool["pool"]; group: string | undefined }> {
    const wanted = parsePluginConfig(json, this.#context.config);
    const known = this.#pools.get(wanted.poolName) ?? (await this.#addInline(wanted, json));
    return { pool: known.pool, group: wanted.group };
  }

  /** Two plugins with the same configuration may ask at the same time. */
  #addInline(wanted: PluginPool, json: string): Promise<LocalPool> {
    const name = wanted.poolName;
    const adding =
      this.#adding.get(name) ?? this.#startInline(wanted, json).finally(() => this.#adding.delete(name));
    this.#adding.set(name, adding);
    return adding;
  }

  async #startInline({ poolName, pool }: PluginPool, json: string): Promise<LocalPool> {
    await checkPools([[poolName, pool]], this.#named());
    await this.#context.host.fabric.include({ subnets: [pool.subnet], dnsServers: pool.dnsServers });
    const created = await createLocalPool(poolName, pool, this.#context);
    await saveInlinePool(this.#context.config, poolName, json);
    await created.pool.start([]);
    this.#pools.set(poolName, created);
    return created;
  }

  async prebuild(
    request: { pool: string; force: boolean; signal: AbortSignal },
    onProgress: (progress: { pool: string; message: string; goldenImage?: string }) => void,
  ): Promise<void> {
    const chosen = this.all().filter(({ pool }) => request.pool === "" || pool.name === request.pool);
    if (chosen.length === 0) {
      throw new FleetingdError(
        "NOT_FOUND",
        request.pool === "" ? "there is no pool" : `there is no pool ${request.pool}`,
        {
          hint: `The pools are: ${this.names() || "none; add a table [pools.default] to the configuration"}.`,
        },
      );
    }
    for (const { pool, images } of chosen) {
      const say = (message: string): void => onProgress({ pool: pool.name, message });
      const image = await images.refresh({ ...request, onStep: say });
      onProgress({ pool: pool.name, message: `the golden image is ${image.name}`, goldenImage: image.name });
    }
  }
}
