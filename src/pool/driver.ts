/**
 * The pool's single driver: it plans, starts the steps that may start, and plans again when one ended.
 *
 * - At most one step runs for an instance, and `limits` bounds the steps of all pools together.
 * - A step that fails is tried again after a pause that grows; failures to create hold back all creation.
 * - A step only ever changes the record of its own instance.
 */
import { describeError } from "../errors.ts";
import type { EventSink } from "../events.ts";
import { waitFor } from "../host/wait.ts";
import type { Logger } from "../log.ts";
import type { Room, Source } from "../sources/source.ts";
import { CircuitBreaker } from "./circuit-breaker.ts";
import type { Entries } from "./entries.ts";
import { type Entry, newEntry, observe } from "./entry.ts";
import { newRecord } from "./instance.ts";
import type { Journal } from "./journal.ts";
import type { Limiter } from "./limiter.ts";
import { plan, type Step } from "./planner.ts";
import { restInstance, wakeInstance } from "./rest.ts";
import type { PoolSettings } from "./settings.ts";
import { createInstance, deleteInstance } from "./steps.ts";

export interface DriverOptions {
  name: string;
  settings(): PoolSettings;
  entries: Entries;
  source: Source;
  journal: Journal;
  /** Shared by all pools of the host. */
  limits: { creates: Limiter; deletes: Limiter };
  logger: Logger;
  events: EventSink;
}

/** What a driver is about, for whoever watches. */
export interface PoolCondition {
  /** Somebody drains the pool. */
  isHeld: boolean;
  /** Creation is held back after a failure, for so long; undefined if it is not. */
  retryInMs: number | undefined;
  /** What keeps it from as many instances as configured; undefined: nothing. */
  shortage: Room | undefined;
  /** How many instances there may be at the moment. */
  capacity: number;
  /** How often it has planned so far, and how long that took in all. */
  plans: number;
  planSeconds: number;
  /** How long ago that was. */
  plannedMsAgo: number;
}

const TICK_MS = 1_000;
const LONGEST_PAUSE_MS = 30_000;
/** The first creation of a pool includes its image's. */
const LONGEST_CREATE_MS = 4 * 60 * 60_000;
const LONGEST_STEP_MS = 10 * 60_000;
// How long a failed instance is reported as timed out; the runner polls every 2 s while it waits for one.
const EPITAPH_MS = 60_000;

export class Driver {
  readonly creation = new CircuitBreaker();
  readonly #planning = { plans: 0, planSeconds: 0 };
  /** What the source can bear besides what it has; undefined: no bound. */
  room: Room | undefined;
  readonly #options: DriverOptions;
  readonly #steps = new Set<Promise<void>>();
  #timer: NodeJS.Timeout | undefined;
  #wakeQueued = false;
  #active = false;
  #held = false;
  #drivenAt = performance.now();

  constructor(options: DriverOptions) {
    this.#options = options;
    options.limits.creates.onFree(() => this.wake());
    options.limits.deletes.onFree(() => this.wake());
  }

  start(): void {
    this.#active = true;
    this.#timer = setInterval(() => void this.#tick(), TICK_MS);
    void this.#tick();
  }

  /** Why this driver seems to hang, or undefined: what a watchdog must know. */
  get hang(): string | undefined {
    const now = performance.now();
    const idleMs = now - this.#drivenAt;
    if (this.#active && idleMs > LONGEST_PAUSE_MS)
      return `nothing was planned for ${Math.round(idleMs / 1_000)} s`;
    for (const { record, step, stepSince } of this.#options.entries.values()) {
      const limitMs = record.state === "creating" ? LONGEST_CREATE_MS : LONGEST_STEP_MS;
      if (step !== undefined && now - stepSince > limitMs)
        return `the instance ${record.id} is ${record.state} for too long`;
    }
    return undefined;
  }

  /** Plans again soon; any number of calls make one plan. */
  wake(): void {
    if (this.#wakeQueued || !this.#active) return;
    this.#wakeQueued = true;
    setImmediate(() => {
      this.#wakeQueued = false;
      if (this.#active) this.#drive(Date.now());
    });
  }

  get condition(): PoolCondition {
    const now = performance.now();
    return {
      ...this.#planning,
      isHeld: this.#held,
      retryInMs: this.creation.lastError === undefined ? undefined : this.creation.retryInMs,
      shortage: this.shortage,
      capacity: this.capacity,
      plannedMsAgo: now - this.#drivenAt,
    };
  }

  get isHeld(): boolean {
    return this.#held;
  }

  /** While held it makes no instance, and keeps none warm. */
  hold(held: boolean): void {
    if (held !== this.#held) this.#options.events({ kind: "drain", pool: this.#options.name, held });
    this.#held = held;
    this.wake();
  }

  /** @throws FleetingdError TIMEOUT */
  async untilEmpty(timeoutMs: number): Promise<void> {
    const entries = this.#options.entries;
    const gone = async () => ([...entries.values()].every((entry) => entry.buried) ? true : undefined);
    await waitFor(gone, { timeoutMs, intervalMs: 20, what: `the pool ${this.#options.name} to be empty` });
  }

  /** Starts no more steps, aborts what is being made, and waits for the steps under way. */
  async stop(): Promise<void> {
    this.#active = false;
    clearInterval(this.#timer);
    for (const entry of this.#options.entries.values()) {
      if (entry.record.state === "creating" || entry.record.resting) entry.step?.abort();
    }
    await Promise.all(this.#steps);
  }

  async #tick(): Promise<void> {
    try {
      this.room = await this.#options.source.room?.();
    } catch (error) {
      this.room = {
        vms: 0,
        isScarce: true,
        limit: "unknown",
        reason: `the host's load could not be read: ${describeError(error)}`,
      };
    }
    this.wake();
  }

  /** Why there may be fewer instances than configured; undefined if that is not so. */
  get shortage(): Room | undefined {
    return this.capacity < this.#options.settings().maxInstances && this.room?.vms === 0
      ? this.room
      : undefined;
  }

  /** How many instances there may be at the moment. */
  get capacity(): number {
    const { settings, entries } = this.#options;
    const { maxInstances } = settings();
    if (this.room === undefined) return maxInstances;
    const waiting = entries.open().filter((entry) => !holdsResources(entry)).length;
    return Math.min(maxInstances, entries.size - waiting + this.room.vms);
  }

  #drive(now: number): void {
    const begunAt = performance.now();
    this.#drivenAt = begunAt;
    const { entries, source } = this.#options;
    const open = entries.open();
    this.#buryTold(open);
    const desired = {
      warm: this.#held ? 0 : this.#options.settings().warmInstances,
      max: this.capacity - (entries.size - open.length),
      mayMakeRoom: this.room?.isScarce !== true,
      mayCreate: !this.#held && !this.creation.isOpen,
    };
    const observed = open.map((entry) =>
      observe(entry, {
        outdated: this.#isOutdated(entry),
        rank: source.rank?.(entry.record.data),
        rests: entry.record.state === "ready" && source.rests?.(entry.record.data) === true,
      }),
    );
    for (const step of plan(desired, observed)) this.#begin(step, now);
    this.#planning.plans += 1;
    this.#planning.planSeconds += (performance.now() - begunAt) / 1_000;
  }

  #isOutdated({ record, idleSince }: Entry): boolean {
    if (record.state !== "ready") return false;
    const { maxIdleAgeMs } = this.#options.settings();
    if (maxIdleAgeMs > 0 && performance.now() - idleSince >= maxIdleAgeMs) return true;
    return this.#options.source.isOutdated?.(record.data) === true;
  }

  #begin(step: Step, now: number): void {
    const { entries, limits } = this.#options;
    if (step.kind === "add") {
      const entry = newEntry(newRecord(this.#options.name, undefined, now), false);
      entries.set(entry.record.id, entry);
      this.#follow(entry, undefined, () => this.#journal(entry));
      return;
    }
    const entry = entries.get(step.id);
    if (entry === undefined) return;
    if (step.kind === "retire") {
      Object.assign(entry.record, { state: "deleting", endedAt: now });
      this.#options.events({ kind: "ending", pool: this.#options.name, instance: step.id, cause: "retired" });
      this.#follow(entry, undefined, () => this.#journal(entry));
      return;
    }
    if (step.kind === "rest" || step.kind === "wake") {
      const work = step.kind === "rest" ? restInstance : wakeInstance;
      this.#follow(entry, undefined, (signal) => work(entry, this.#options, signal));
      return;
    }
    const limiter = step.kind === "create" ? limits.creates : limits.deletes;
    if (step.kind === "create" && this.room !== undefined && this.room.vms < 1) return;
    if (!limiter.tryTake()) return;
    if (step.kind === "create" && this.room !== undefined) this.room.vms -= 1;
    const work = step.kind === "create" ? this.#create : this.#delete;
    this.#follow(entry, limiter, (signal) => work(entry, signal));
  }

  /** Runs `work` as the entry's one step, and plans again when it ended. */
  #follow(entry: Entry, limiter: Limiter | undefined, work: (signal: AbortSignal) => Promise<void>): void {
    const controller = new AbortController();
    entry.step = controller;
    entry.stepSince = performance.now();
    const step = work(controller.signal)
      .then(
        () => entry.backoff.succeed(),
        (error: unknown) => this.#stepFailed(entry, error),
      )
      .finally(() => {
        entry.step = undefined;
        this.#steps.delete(step);
        limiter?.give();
        this.wake();
      });
    this.#steps.add(step);
  }

  /** Tells of what has just changed: many failures at once are one. */
  #holdBack(lastError: string, begunAt: number): void {
    if (!this.creation.fail(lastError, begunAt)) return;
    const { name: pool, events } = this.#options;
    events({ kind: "held-back", pool, error: lastError, retryInSeconds: this.creation.retryInMs / 1_000 });
  }

  #stepFailed(entry: Entry, cause: unknown): void {
    const error = describeError(cause);
    const { id: instance, state } = entry.record;
    entry.record.lastError = error;
    // Its record can't be written: then none can be made.
    if (state === "creating") this.#holdBack(error, entry.stepSince);
    const pauseMs = entry.backoff.fail();
    entry.notBefore = performance.now() + pauseMs;
    const attempt = entry.backoff.failures;
    const { name: pool, events, logger } = this.#options;
    events({ kind: "retry", pool, instance, state, error, attempt, retryInSeconds: pauseMs / 1_000 });
    const stage = state === "creating" ? "CREATE" : "DELETE";
    logger.error("a step failed and will be tried again", { instance, stage, state, error, attempt });
  }

  #journal = async (entry: Entry): Promise<void> => {
    await this.#options.journal.write(entry.record);
    entry.journaled = true;
  };

  #create = async (entry: Entry, signal: AbortSignal): Promise<void> => {
    if (!entry.journaled) await this.#journal(entry);
    const failure = await createInstance(entry, this.#options, signal, () => this.#unclaimed());
    if (failure === undefined) {
      if (this.creation.lastError !== undefined)
        this.#options.events({ kind: "resumed", pool: this.#options.name });
      this.creation.succeed();
    } else if (this.#active && entry.record.state === "failed") {
      this.#holdBack(failure, entry.stepSince);
    }
  };

  #unclaimed(): string[] {
    return [...this.#options.entries.values()]
      .filter(
        ({ record: { group, state } }) => group === undefined && (state === "ready" || state === "creating"),
      )
      .map(({ record }) => record.id);
  }

  #delete = async (entry: Entry, signal: AbortSignal): Promise<void> => {
    // It is left to be done again only that its record can't be removed.
    if (!entry.isGone) await deleteInstance(entry, this.#options, signal);
    entry.isGone = true;
    if (entry.record.state === "failed" && entry.record.group !== undefined && !entry.told)
      Object.assign(entry, { buried: true, buriedAt: performance.now() });
    else await this.#forget(entry);
  };

  #buryTold(entries: readonly Entry[]): void {
    for (const entry of entries) {
      if (!entry.buried || entry.step !== undefined) continue;
      if (entry.told || performance.now() - entry.buriedAt >= EPITAPH_MS) {
        this.#follow(entry, undefined, () => this.#forget(entry));
      }
    }
  }

  async #forget(entry: Entry): Promise<void> {
    // Whoever asks for its end now would write a record after the last one was removed.
    entry.record.state = "deleting";
    await this.#options.journal.remove(entry.record.id);
    this.#options.entries.delete(entry.record.id);
  }
}

/** Whether an instance counts in what its source says of its room. */
function holdsResources({ record, step, buried }: Entry): boolean {
  return !buried && (record.state !== "creating" || step !== undefined);
}
