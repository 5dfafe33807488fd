/**
 * One pool: its instances, and the requests that runners make of it. The driver (driver.ts) does the work.
 *
 * Invariants:
 * - A record is durable before the first side effect of its instance, and removed after the last.
 * - Requests only change records and wake the driver; they run no program.
 * - A claimed instance belongs to one group until it is gone, and no other group ever sees it.
 */
import { FleetingdError, messageOf } from "../errors.ts";
import type { DaemonEvent, EventSink } from "../events.ts";
import type { Logger } from "../log.ts";
import type { ConnectInfo, Source, SourceStatus } from "../sources/source.ts";
import { type ClaimResult, Claims } from "./claims.ts";
import { Driver, type PoolCondition } from "./driver.ts";
import { Entries } from "./entries.ts";
import { type Entry, isResting, newEntry } from "./entry.ts";
import type { InstanceRecord } from "./instance.ts";
import type { Journal } from "./journal.ts";
import type { Limiter } from "./limiter.ts";
import { Monitor } from "./monitor.ts";
import { Records, writeOrLater } from "./records.ts";
import type { PoolSettings } from "./settings.ts";
import { SourceWatch } from "./source-watch.ts";
import { type InstanceView, view, viewOfGroup } from "./view.ts";

export interface PoolOptions {
  name: string;
  settings: PoolSettings;
  source: Source;
  journal: Journal;
  /** Shared by all pools of the host. */
  limits: { creates: Limiter; deletes: Limiter };
  logger: Logger;
  /** Told of everything that happens; left out: nobody is. */
  events?: EventSink;
}

type EndingCause = Extract<DaemonEvent, { kind: "ending" }>["cause"];

const CHECK_MS = 1_000;

export class Pool {
  readonly name: string;
  readonly #journal: Journal;
  readonly #log: Logger;
  readonly #source: Source;
  readonly #events: EventSink;
  readonly #entries = new Entries();
  readonly #driver: Driver;
  readonly #claims: Claims;
  readonly #monitor: Monitor;
  readonly #sourceWatch: SourceWatch;
  readonly #records: Records;
  #settings: PoolSettings;
  #wasAsked = false;
  #timer: NodeJS.Timeout | undefined;

  constructor(options: PoolOptions) {
    this.name = options.name;
    this.#settings = options.settings;
    this.#journal = options.journal;
    this.#source = options.source;
    this.#log = options.logger.child({ pool: options.name });
    this.#events = options.events ?? (() => undefined);
    const own = { entries: this.#entries, logger: this.#log, events: this.#events };
    const shared = { ...options, ...own, settings: () => this.#settings };
    this.#driver = new Driver(shared);
    this.#claims = new Claims({ ...shared, driver: this.#driver });
    this.#monitor = new Monitor({
      ...shared,
      onSick: (id, reason) => void this.#lost(id, reason),
      onTrouble: (id, reason) => void this.#troubled(id, reason),
    });
    this.#sourceWatch = new SourceWatch(shared);
    this.#records = new Records(this.#entries, options.journal, this.#log);
    options.source.onLost((id, reason) => void this.#lost(id, reason));
    options.source.onTrouble?.((id, reason) => void this.#troubled(id, reason));
  }

  /**
   * Takes over what an earlier daemon left, then starts the driver.
   * @param options.sweep These are all records, so what the source finds besides is nobody's.
   */
  async start(records: readonly InstanceRecord[], { sweep = true } = {}): Promise<void> {
    await Promise.all(records.map((record) => this.#adopt(record)));
    this.#source.open?.({ sweep });
    this.#driver.start();
    this.#timer = setInterval(() => {
      this.#monitor.tick();
      this.#sourceWatch.tick();
      void this.#records.restore();
    }, CHECK_MS);
  }

  get settings(): PoolSettings {
    return this.#settings;
  }

  /** Takes effect with the next plan. */
  configure(settings: PoolSettings): void {
    this.#settings = settings;
    this.#driver.wake();
  }

  get sourceName(): string {
    return this.#source.name;
  }

  /** How its source does, or each of them. */
  get sources(): readonly SourceStatus[] {
    return this.#source.status?.() ?? [];
  }

  /** Why creation is held back, if it is. */
  get trouble(): string | undefined {
    return this.#driver.creation.lastError ?? this.#driver.shortage?.reason;
  }

  /** What its driver is about. */
  get condition(): PoolCondition {
    return this.#driver.condition;
  }

  /** Why the pool seems to hang, or undefined. */
  get hang(): string | undefined {
    return this.#driver.hang;
  }

  /** Whether it makes instances: it keeps some warm, or somebody has asked for one. */
  get isInUse(): boolean {
    if (this.#driver.isHeld) return false;
    return this.#settings.warmInstances > 0 || this.#wasAsked || this.groups().length > 0;
  }

  /** Who has claimed instances of it. */
  groups(): string[] {
    return [...new Set([...this.#entries.values()].flatMap(({ record }) => record.group ?? []))];
  }

  /** Gives `group` up to `n` instances: idle ones first, new ones for the rest. Answers at once. */
  claim(group: string, n: number, now = Date.now()): Promise<ClaimResult> {
    this.#wasAsked = true;
    return this.#claims.claim(group, n, now);
  }

  /** Starts the deletion of a group's instances; ids that are unknown or not the group's count as done. */
  async release(group: string, ids: readonly string[]): Promise<string[]> {
    const done: string[] = [];
    for (const id of new Set(ids)) {
      const entry = this.#entries.get(id);
      if (entry !== undefined && entry.record.group === group) await this.#end(entry, "released");
      done.push(id);
    }
    return done;
  }

  /** Starts the deletion of an instance, whoever has it. @returns false if there is no such instance */
  async remove(id: string, reason: string): Promise<boolean> {
    const entry = this.#entries.get(id);
    if (entry === undefined || entry.buried) return false;
    // One that failed is on its way out, and its group has yet to hear that it failed.
    if (entry.record.state !== "failed") await this.#end(entry, "removed", reason);
    return true;
  }

  /** The group's instances: what was claimed for it and is not gone. */
  list(group: string): InstanceView[] {
    const own: Entry[] = [];
    for (const entry of this.#entries.values()) if (entry.record.group === group) own.push(entry);
    for (const entry of own) if (entry.record.state === "failed") entry.told = true;
    return own.map(viewOfGroup);
  }

  all(): InstanceView[] {
    return [...this.#entries.values()].filter((entry) => !entry.buried).map(view);
  }

  /** @throws FleetingdError NOT_FOUND, or UNAVAILABLE while the instance is not ready. */
  connectInfo(group: string, id: string): ConnectInfo {
    const entry = this.#owned(group, id);
    const { record } = entry;
    const isAwake = record.state === "ready" && !isResting(entry);
    if (isAwake && record.connectInfo !== undefined) return record.connectInfo;
    const state = isResting(entry) ? "being woken" : record.state;
    throw new FleetingdError("UNAVAILABLE", `the instance ${id} is ${state}, so nobody can log in to it`);
  }

  /** @throws FleetingdError NOT_FOUND, or UNAVAILABLE when the instance is on its way out. */
  heartbeat(group: string, id: string): void {
    const { record, trouble } = this.#owned(group, id);
    const isAlive = record.state === "ready" || record.state === "creating";
    if (isAlive && trouble === undefined) return;
    throw new FleetingdError(
      "UNAVAILABLE",
      `the instance ${id} is ${record.state}: ${trouble ?? record.lastError ?? "its deletion was asked for"}`,
    );
  }

  /** Makes no instance any more and keeps none warm; what is claimed goes on. */
  hold(held: boolean): void {
    this.#driver.hold(held);
  }

  /** Ends every instance and makes no new ones; resolves when all are gone. */
  async clear(timeoutMs: number): Promise<void> {
    this.#driver.hold(true);
    for (const entry of [...this.#entries.values()]) await this.#end(entry, "cleared");
    await this.#driver.untilEmpty(timeoutMs);
  }

  /** Stops the driver; ready instances live on and are taken over by the next daemon. */
  async stop(): Promise<void> {
    clearInterval(this.#timer);
    await Promise.all([this.#monitor.stop(), this.#driver.stop(), this.#records.settle()]);
    await this.#source.close?.();
  }

  #owned(group: string, id: string): Entry {
    const entry = this.#entries.get(id);
    if (entry !== undefined && entry.record.group === group) return entry;
    throw new FleetingdError("NOT_FOUND", `there is no instance ${id} in the group ${group}`);
  }

  async #end(entry: Entry, cause: EndingCause, reason?: string): Promise<void> {
    if (entry.record.state === "deleting") return;
    if (entry.buried) {
      // Only its epitaph was left.
      this.#entries.delete(entry.record.id);
      await this.#journal.remove(entry.record.id);
      return;
    }
    Object.assign(entry.record, {
      state: "deleting",
      endedAt: Date.now(),
      ...(reason === undefined ? {} : { lastError: reason }),
    });
    this.#entries.reopen(entry);
    this.#events({
      kind: "ending",
      ...{ pool: this.name, instance: entry.record.id, cause },
      ...(reason === undefined ? {} : { reason }),
    });
    entry.step?.abort();
    entry.isBeingWritten = true;
    await writeOrLater(entry, this.#journal, this.#log);
    entry.isBeingWritten = false;
    this.#driver.wake();
  }

  /** One that waits is replaced; of one that serves a job its group is told, which may still save something of it. */
  async #troubled(id: string, reason: string): Promise<void> {
    const entry = this.#entries.get(id);
    if (entry?.record.state !== "ready") return;
    entry.trouble = reason;
    entry.record.lastError = reason;
    this.#events({ kind: "troubled", pool: this.name, instance: id, reason });
    const isIdle = entry.record.group === undefined;
    const about = { instance: id, stage: "ANALYSIS", reason };
    this.#log.warn("jobs on an instance would fail", { ...about, replaced: isIdle });
    if (isIdle) await this.#end(entry, "lost", reason);
  }

  async #lost(id: string, reason: string): Promise<void> {
    const entry = this.#entries.get(id);
    if (entry?.record.state !== "ready") return;
    this.#log.warn("an instance ended by itself", { instance: id, stage: "ANALYSIS", reason });
    await this.#end(entry, "lost", reason);
  }

  async #adopt(record: InstanceRecord): Promise<void> {
    const entry = newEntry(record, true);
    this.#entries.set(record.id, entry);
    // Asked for every record, for what it holds must not be given to another instance before it is torn down.
    const alive = await this.#resume(entry);
    const { id: instance, state, group, createdAt, phases, readyAt, claimedAt } = record;
    const times = { createdAt, phases, readyAt, claimedAt };
    this.#events({ kind: "adopted", pool: this.name, instance, state, alive, group, ...times });
    if (record.state === "creating") {
      const lastError = "the daemon was restarted while it was made";
      Object.assign(record, { state: "failed", endedAt: Date.now(), lastError });
      await writeOrLater(entry, this.#journal, this.#log);
    } else if (record.state === "ready") {
      if (!alive)
        await this.#lost(record.id, entry.trouble ?? "its machine was gone when the daemon started");
      else if (entry.trouble === undefined)
        this.#log.info("took over an instance", { instance: record.id, stage: "ANALYSIS" });
    }
  }

  async #resume(entry: Entry): Promise<boolean> {
    const { id, data, group } = entry.record;
    try {
      return await this.#source.resume({ id, data, directory: this.#journal.directoryOf(id) });
    } catch (error) {
      const reason = messageOf(error);
      this.#log.error("an instance can't be taken over", { instance: id, stage: "ANALYSIS", error: reason });
      // That says nothing of its machine: a job that goes on there is not ended for it.
      entry.trouble = `it could not be taken over: ${reason}`;
      return group !== undefined;
    }
  }
}
