/**
 * One pool: its instances, and the requests that runners make of it. The driver (driver.ts) does the work.
 *
 * Invariants:
 * - A record is durable before the first side effect of its instance, and removed after the last.
 * - Requests only change records and wake the driver; they run no program.
 * - A claimed instance belongs to one group until it is gone, and no other group ever sees it.
 */
import { describeError, FleetingdError, messageOf } from "../errors.ts";
import type { DaemonEvent, EventSink } from "../events.ts";
import type { Logger } from "../log.ts";
import type { ConnectInfo, Source, SourceStatus } from "../sources/source.ts";
import { Driver, type PoolCondition } from "./driver.ts";
import { Entries } from "./entries.ts";
import { byAge, type Entry, newEntry } from "./entry.ts";
import { type InstanceRecord, newRecord } from "./instance.ts";
import type { Journal } from "./journal.ts";
import type { Limiter } from "./limiter.ts";
import { Monitor } from "./monitor.ts";
import { Records, writeOrLater } from "./records.ts";
import type { PoolSettings } from "./settings.ts";
import { type InstanceView, view } from "./view.ts";

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

export interface ClaimResult {
  accepted: number;
  /** Why fewer than asked for were accepted, or why new ones have to wait; undefined if neither is so. */
  reason: string | undefined;
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
  readonly #monitor: Monitor;
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
    this.#monitor = new Monitor({
      ...shared,
      onSick: (id, reason) => void this.#lost(id, reason),
      onTrouble: (id, reason) => void this.#troubled(id, reason),
    });
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
  async claim(group: string, n: number, now = Date.now()): Promise<ClaimResult> {
    this.#wasAsked = true;
    const begunAt = performance.now();
    const open = this.#entries.open();
    const living = this.#entries.size - open.filter(({ buried }) => buried).length;
    const unclaimed = open.filter(({ buried, record }) => !buried && record.group === undefined).sort(byAge);
    const idle = unclaimed
      .filter(({ record }) => record.state === "ready")
      .sort((a, b) => this.#rank(a) - this.#rank(b) || byAge(a, b))
      .slice(0, n);
    // What is being made for the warm stock already is nearer to its end than anything begun now.
    const underway = unclaimed.filter(({ record }) => record.state === "creating").slice(0, n - idle.length);
    const existing = [...idle, ...underway];
    for (const { record } of existing) Object.assign(record, { group, claimedAt: now });
    const room = this.#driver.isHeld ? 0 : Math.max(0, this.#driver.capacity - living);
    const wanted = n - existing.length;
    const fresh = Array.from({ length: Math.min(wanted, room) }, () =>
      newEntry(newRecord(this.name, group, now), false),
    );
    for (const entry of fresh) this.#entries.set(entry.record.id, entry);

    const written = await this.#writeClaims(existing, fresh);
    this.#driver.wake();
    this.#tellClaimed("warm", idle);
    this.#tellClaimed("creating", underway);
    this.#tellClaimed("new", fresh);
    const { accepted } = written;
    const seconds = (performance.now() - begunAt) / 1_000;
    this.#events({ kind: "claim", pool: this.name, group, asked: n, accepted, seconds });
    if (accepted === n) return { accepted, reason: fresh.length > 0 ? this.#whyHeldBack() : undefined };
    const full = written.error === undefined ? this.#whyFull() : { limit: "record", reason: written.error };
    this.#events({ kind: "rejected", pool: this.name, group, rejected: n - accepted, ...full });
    return { accepted, reason: full.reason };
  }

  #whyHeldBack(): string | undefined {
    const { isOpen, retryInMs, lastError } = this.#driver.creation;
    if (!isOpen) return undefined;
    return `no instance could be made lately; the next try is in ${Math.ceil(retryInMs / 1000)} s: ${lastError}`;
  }

  #whyFull(): { limit: string; reason: string } {
    if (this.#driver.isHeld)
      return { limit: "drain", reason: `the pool ${this.name} makes no more instances: it is being drained` };
    const { limit = "source", reason } = this.#driver.shortage ?? {
      limit: "max_instances",
      reason: `the pool ${this.name} is at its maximum of ${this.#settings.maxInstances} instances (max_instances)`,
    };
    return { limit, reason };
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

  /** The group's instances: what was claimed for it and is not gone. */
  list(group: string): InstanceView[] {
    const own: Entry[] = [];
    for (const entry of this.#entries.values()) if (entry.record.group === group) own.push(entry);
    for (const entry of own) if (entry.record.state === "failed") entry.told = true;
    return own.map(view);
  }

  all(): InstanceView[] {
    return [...this.#entries.values()].filter((entry) => !entry.buried).map(view);
  }

  /** @throws FleetingdError NOT_FOUND, or UNAVAILABLE while the instance is not ready. */
  connectInfo(group: string, id: string): ConnectInfo {
    const { record } = this.#owned(group, id);
    if (record.state === "ready" && record.connectInfo !== undefined) return record.connectInfo;
    throw new FleetingdError(
      "UNAVAILABLE",
      `the instance ${id} is ${record.state}, so nobody can log in to it`,
    );
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
    for (const entry of this.#living()) await this.#end(entry, "cleared");
    await this.#driver.untilEmpty(timeoutMs);
  }

  /** Stops the driver; ready instances live on and are taken over by the next daemon. */
  async stop(): Promise<void> {
    clearInterval(this.#timer);
    await Promise.all([this.#monitor.stop(), this.#driver.stop(), this.#records.settle()]);
    await this.#source.close?.();
  }

  /** The dearest are given out last. */
  #rank({ record }: Entry): number {
    return this.#source.rank?.(record.data) ?? 0;
  }

  #living(): Entry[] {
    return [...this.#entries.values()].filter((entry) => !entry.buried);
  }

  #owned(group: string, id: string): Entry {
    const entry = this.#entries.get(id);
    if (entry !== undefined && entry.record.group === group) return entry;
    throw new FleetingdError("NOT_FOUND", `there is no instance ${id} in the group ${group}`);
  }

  #tellClaimed(from: "warm" | "creating" | "new", entries: readonly Entry[]): void {
    for (const { record } of entries) {
      // Of those whose record could not be written the claim was taken back, or the instance dropped.
      if (record.group === undefined || !this.#entries.has(record.id)) continue;
      this.#events({ kind: "claimed", pool: this.name, instance: record.id, group: record.group, from });
    }
  }

  /** Journals claims; what cannot be written is not accepted and is as before. */
  async #writeClaims(
    existing: Entry[],
    fresh: Entry[],
  ): Promise<{ accepted: number; error: string | undefined }> {
    let error: string | undefined;
    const results = await Promise.all(
      [...existing, ...fresh].map(async (entry) => {
        try {
          await this.#journal.write(entry.record);
          entry.journaled = true;
          return 1;
        } catch (failure) {
          error = `the record of ${entry.record.id} could not be written: ${describeError(failure)}`;
          this.#log.error(error, { instance: entry.record.id });
          if (fresh.includes(entry)) await this.#drop(entry);
          else this.#unclaim(entry);
          return 0;
        }
      }),
    );
    return { accepted: results.reduce<number>((sum, one) => sum + one, 0), error };
  }

  #unclaim(entry: Entry): void {
    delete entry.record.group;
    delete entry.record.claimedAt;
    // Nobody knows how far the write has come.
    entry.unsaved = true;
    this.#entries.reopen(entry);
  }

  /** Forgets an instance of which nothing was made but perhaps a part of its record. */
  async #drop({ record: { id } }: Entry): Promise<void> {
    this.#entries.delete(id);
    try {
      await this.#journal.remove(id);
    } catch (error) {
      this.#log.warn("a folder without a record is left until the next start", {
        instance: id,
        error: messageOf(error),
      });
    }
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
    entry.ending = true;
    await writeOrLater(entry, this.#journal, this.#log);
    entry.ending = false;
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
    this.#log.warn("jobs on an instance would fail", { instance: id, reason, replaced: isIdle });
    if (isIdle) await this.#end(entry, "lost", reason);
  }

  async #lost(id: string, reason: string): Promise<void> {
    const entry = this.#entries.get(id);
    if (entry?.record.state !== "ready") return;
    this.#log.warn("an instance ended by itself", { instance: id, reason });
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
        await this.#end(entry, "lost", entry.trouble ?? "its machine was gone when the daemon started");
      else if (entry.trouble === undefined) this.#log.info("took over an instance", { instance: record.id });
    }
  }

  async #resume(entry: Entry): Promise<boolean> {
    const { id, data, group } = entry.record;
    try {
      return await this.#source.resume({ id, data, directory: this.#journal.directoryOf(id) });
    } catch (error) {
      const reason = messageOf(error);
      this.#log.error("an instance can't be taken over", { instance: id, error: reason });
      // That says nothing of its machine: a job that goes on there is not ended for it.
      entry.trouble = `it could not be taken over: ${reason}`;
      return group !== undefined;
    }
  }
}
