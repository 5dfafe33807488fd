/** The daemon's pools by name: those of its configuration, and those that plugins describe. */
import { join } from "node:path";
import { type PluginPool, parsePluginConfig } from "../config/plugin-config.ts";
import type { Config, PoolConfig } from "../config/types.ts";
import { describeError, FleetingdError } from "../errors.ts";
import { listProcessUsers } from "../host/process-list.ts";
import { sleep } from "../host/wait.ts";
import { CONSOLE_LOG } from "../hypervisor/driver.ts";
import type { IncludedPool } from "../network/fabric.ts";
import { addressOfTap, parseVmSubnet, slotOfAddress } from "../network/slots.ts";
import type { InstanceRecord } from "../pool/instance.ts";
import { sweepLocalHost } from "../sources/local/sweep.ts";
import { networkOf, parseLocalData } from "../sources/local/vm.ts";
import { sourceOf } from "../sources/source.ts";
import {
  createPool,
  type DaemonPool,
  type DaemonPoolContext,
  isLocal,
  type LocalPool,
} from "./daemon-pool.ts";
import { isDrained, keepDrained } from "./drain.ts";
import { forgottenPool, sourcesInUse } from "./forgotten-pools.ts";
import { checkPools, type NamedPool, needsHost, usesHost } from "./host-checks.ts";
import { saveInlinePool } from "./inline-pools.ts";
import { hasLocalVms, loadLocalRecords } from "./local-records.ts";
import { policyOf } from "./pool-policy.ts";
import { compareConfigs } from "./reload.ts";

/** Whoever may use the socket may describe pools, each with folders and rules of its own. */
const MAX_POOLS = 256;
const DRAIN_POLL_MS = 200;

export class PoolRegistry {
  readonly #context: DaemonPoolContext;
  readonly #pools = new Map<string, DaemonPool>();
  /** By name: no longer configured, so their VMs are the last ones. */
  readonly #forgotten = new Set<string>();
  #isDrained = false;
  #changing: Promise<unknown> = Promise.resolve();
  #unreadable = 0;

  constructor(context: DaemonPoolContext) {
    this.#context = context;
  }

  all(): DaemonPool[] {
    return [...this.#pools.values()];
  }

  /** Those with VMs on this host. */
  local(): LocalPool[] {
    return this.all().filter(isLocal);
  }

  /** Where an instance's console is logged; undefined if there is no such instance. */
  consolePath(instance: string): string | undefined {
    const isThere = this.all().some(({ pool }) => pool.all().some(({ id }) => id === instance));
    return isThere ? join(this.#context.journal.directoryOf(instance), CONSOLE_LOG) : undefined;
  }

  /** How many records could not be read at the start. */
  get unreadableRecords(): number {
    return this.#unreadable;
  }

  #named(): NamedPool[] {
    return [...this.#pools].map(([name, { config }]) => [name, config]);
  }

  names(): string {
    return [...this.#pools.keys()].join(", ");
  }

  async add(name: string, config: PoolConfig, former?: readonly string[]): Promise<void> {
    this.#keep(name, await createPool(name, config, this.#context, former));
  }

  #keep(name: string, pool: DaemonPool): void {
    this.#pools.set(name, pool);
    this.#hold(name);
  }

  /** Holds a pool, or lets it go on, whichever it is to do now. */
  #hold(name: string): void {
    this.#pools.get(name)?.pool.hold(this.#isDrained || this.#forgotten.has(name));
  }

  /** For a pool that only a plugin knows of: it will hear of the error when it attaches. */
  async tryAdd(name: string, config: PoolConfig, former?: readonly string[]): Promise<void> {
    try {
      await checkPools([[name, config]], this.#named());
      await this.add(name, config, former);
    } catch (error) {
      this.#context.logger.error("a pool that a plugin left can't be used", {
        pool: name,
        error: describeError(error),
      });
    }
  }

  /** Makes the pools and hands every record to its own. */
  async open(): Promise<void> {
    const { config, inline, journal, logger } = this.#context;
    this.#isDrained = await isDrained(config.daemon.stateDirectory);
    if (this.#isDrained)
      logger.warn("the host is being drained, so no VM is made until `fleetingd drain --undo`");
    const loaded = await loadLocalRecords(journal);
    const { records, unreadable } = loaded;
    const pools = [...Object.values(config.pools), ...inline.map(([, pool]) => pool)];
    if (hasLocalVms(loaded) || needsHost(pools)) await this.#context.local.open();
    const used = sourcesInUse(records);
    for (const [name, pool] of Object.entries(config.pools)) await this.add(name, pool, used.get(name));
    for (const [name, pool] of inline) await this.tryAdd(name, pool, used.get(name));
    this.#unreadable = unreadable.length;
    for (const { path, reason } of unreadable)
      logger.error("a record could not be read and is left alone", { path, reason });
    await this.#addForgotten(records);
    await this.#reserve(records);
    await this.#sweep(records, unreadable.length);
    const of = (name: string): InstanceRecord[] => records.filter((record) => record.pool === name);
    const sweep = unreadable.length === 0;
    await Promise.all(this.all().map(({ pool }) => pool.start(of(pool.name), { sweep })));
  }

  /** Pools that are configured no more but have VMs: they make no new ones, and end with their last job. */
  async #addForgotten(records: readonly InstanceRecord[]): Promise<void> {
    for (const { id, pool: name, data } of records) {
      if (this.#pools.has(name)) continue;
      const config = forgottenPool(id, data, this.#context.config);
      if (config === undefined) {
        this.#context.logger.error(
          "an instance is of a source that is not configured any more, so it is left alone",
          {
            instance: id,
            source: sourceOf(data),
          },
        );
        continue;
      }
      this.#context.logger.warn("a pool is not configured any more, so its VMs are the last ones", {
        pool: name,
      });
      this.#forgotten.add(name);
      await this.add(name, config);
    }
  }

  /**
   * No new VM gets a network or a user that an unknown one may have: of a record that could not be read only the TAP and
   * the process are known.
   */
  async #reserve(records: readonly InstanceRecord[]): Promise<void> {
    const host = this.#context.local.opened?.host;
    if (host === undefined) return;
    const subnets = new Map(this.local().map(({ config }) => [config.subnet.cidr, config.subnet]));
    const known = new Set<string>();
    for (const { id, data } of records) {
      const local = parseLocalData(id, data);
      if (local === undefined) continue;
      const subnet = parseVmSubnet(local.subnet);
      subnets.set(subnet.cidr, subnet);
      known.add(networkOf(local).tapName);
    }
    await host.fabric.include({ subnets: [...subnets.values()], dnsServers: [] });
    for (const tap of await host.fabric.listTaps()) {
      const address = addressOfTap(tap);
      if (known.has(tap) || address === undefined) continue;
      for (const subnet of subnets.values()) {
        const slot = slotOfAddress(subnet, address);
        if (slot !== undefined) host.leasesOf(subnet).acquireSlot(slot);
      }
    }
    for (const user of await listProcessUsers()) host.users.reserve(user);
  }

  async #sweep(records: readonly InstanceRecord[], unreadable: number): Promise<void> {
    const { config, local, journal, logger, events } = this.#context;
    if (local.opened === undefined) return;
    // What such a record names is not known, so nothing is nobody's.
    if (unreadable > 0)
      return logger.warn("leftovers are not looked for while a record can't be read", { unreadable });
    const stored = records.map(({ id, data }) => ({ id, data, directory: journal.directoryOf(id) }));
    const diskDirectories = Object.values(config.pools).map((pool) => pool.diskDirectory);
    await sweepLocalHost(local.opened.host, stored, diskDirectories, logger, events);
  }

  /** Why a pool seems to hang, or undefined. */
  get hang(): string | undefined {
    for (const { pool } of this.all()) {
      if (pool.hang !== undefined) return `pool ${pool.name}: ${pool.hang}`;
    }
    return undefined;
  }

  /**
   * Takes over what may change while the daemon works.
   * @returns a sentence for each thing that may not
   * @throws FleetingdError: what the host has against the new pools; nothing was changed then
   */
  reload(next: Config): Promise<string[]> {
    return this.#inTurn(() => this.#reload(next));
  }

  /** One change of the pools after the other: each is checked against what the one before has made of them. */
  #inTurn<T>(change: () => Promise<T>): Promise<T> {
    const changed = this.#changing.then(change);
    this.#changing = changed.catch(() => undefined);
    return changed;
  }

  async #reload(next: Config): Promise<string[]> {
    const { added, kept, removed, notes } = compareConfigs(this.#configured(), next);
    await checkPools(added, this.#named());
    for (const [name, config] of kept) await this.#configure(name, config);
    for (const name of removed) {
      this.#forgotten.add(name);
      this.#hold(name);
    }
    const pools = Object.fromEntries([...kept, ...added]);
    this.#context.config = { ...this.#context.config, pools, images: next.images };
    for (const [name, config] of added) {
      await this.#include(config);
      await this.add(name, config);
      await this.#pools.get(name)?.pool.start([]);
    }
    return notes;
  }

  /** The configuration with those pools of earlier ones that still are: one may come back before its last job has ended. */
  #configured(): Config {
    const { config } = this.#context;
    const forgotten = [...this.#forgotten].flatMap((name) => {
      const pool = this.#pools.get(name);
      return pool === undefined ? [] : [[name, pool.config] as const];
    });
    return { ...config, pools: { ...config.pools, ...Object.fromEntries(forgotten) } };
  }

  async #configure(name: string, config: PoolConfig): Promise<void> {
    const known = this.#pools.get(name);
    if (known === undefined) return;
    const { config: daemonConfig, local } = this.#context;
    if (isLocal(known))
      await local.opened?.host.fabric.setPolicy(policyOf(name, config, daemonConfig.services));
    this.#pools.set(name, { ...known, config });
    known.pool.configure(config);
    this.#forgotten.delete(name);
    this.#hold(name);
  }

  /** Makes no more VMs from now on, or makes them again. Outlives the daemon. */
  async setDrained(drained: boolean): Promise<void> {
    await keepDrained(this.#context.config.daemon.stateDirectory, drained);
    this.#isDrained = drained;
    for (const name of this.#pools.keys()) this.#hold(name);
  }

  /** Makes no more VMs and resolves when the last job has ended; undone by `held: false`. */
  async drain(
    { held, signal }: { held: boolean; signal: AbortSignal },
    onProgress: (left: number) => void,
  ): Promise<void> {
    await this.setDrained(held);
    for (let told = -1; held; ) {
      const left = this.all().reduce((sum, { pool }) => sum + pool.all().length, 0);
      if (left !== told) onProgress(left);
      if (left === 0) return;
      if (!this.#isDrained) throw new FleetingdError("CANCELLED", "somebody has undone the drain");
      told = left;
      await sleep(DRAIN_POLL_MS, signal);
    }
  }

  /** Starts the deletion of an instance, whoever has it. @throws FleetingdError NOT_FOUND */
  async remove(id: string, reason: string): Promise<void> {
    for (const { pool } of this.all()) if (await pool.remove(id, reason)) return;
    throw new FleetingdError("NOT_FOUND", `there is no instance ${id}`, {
      hint: "`fleetingd ps` lists those that there are.",
    });
  }

  /** Ends the drivers; VMs live on. */
  async stop(): Promise<void> {
    await this.#changing;
    await Promise.all(
      this.all().flatMap(({ pool, images, snapshots }) => [images?.stop(), snapshots?.stop(), pool.stop()]),
    );
    await this.#context.clouds.close();
  }

  async forPlugin(
    json: string,
  ): Promise<{ pool: DaemonPool["pool"] } & Pick<PluginPool, "group" | "debugListen">> {
    const wanted = parsePluginConfig(json, this.#context.config);
    // Two plugins with the same configuration may ask at the same time.
    const known =
      this.#pools.get(wanted.poolName) ??
      (await this.#inTurn(
        async () => this.#pools.get(wanted.poolName) ?? (await this.#startInline(wanted, json)),
      ));
    return { pool: known.pool, group: wanted.group, debugListen: wanted.debugListen };
  }

  async #startInline({ poolName, pool }: PluginPool, json: string): Promise<DaemonPool> {
    if (this.#pools.size >= MAX_POOLS) {
      throw new FleetingdError("EXHAUSTED", `the daemon has ${MAX_POOLS} pools already`, {
        hint: "Let runners share pools, or remove those of runners that are gone: fleetingd purge removes all.",
      });
    }
    await checkPools([[poolName, pool]], this.#named());
    await this.#include(pool);
    const created = await createPool(poolName, pool, this.#context);
    await saveInlinePool(this.#context.config, poolName, json);
    created.pool.hold(this.#isDrained);
    await created.pool.start([]);
    this.#keep(poolName, created);
    return created;
  }

  async #include(config: PoolConfig): Promise<void> {
    if (!usesHost(config)) return;
    const { host } = await this.#context.local.open();
    await host.fabric.include(includedPool(config));
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
      if (images === undefined) {
        if (request.pool === "") continue;
        throw new FleetingdError(
          "INVALID_ARGUMENT",
          `the pool ${pool.name} has no VMs on this host, so it has no golden image`,
          { hint: "Its instances are made of the image that its source names." },
        );
      }
      const say = (message: string): void => onProgress({ pool: pool.name, message });
      const image = await images.refresh({ ...request, onStep: say });
      onProgress({ pool: pool.name, message: `the golden image is ${image.name}`, goldenImage: image.name });
    }
  }
}

function includedPool({ subnet, subnet6, dnsServers }: PoolConfig): IncludedPool {
  return { subnets: [subnet], subnets6: subnet6 === undefined ? [] : [subnet6], dnsServers };
}
