/**
 * Several sources as one, asked in their order: what has no room or fails is passed over, and asked again after a while.
 *
 * Which source an instance is of stands in its data; until that is saved its member knows it.
 */
import { describeError, FleetingdError, messageOf } from "../../errors.ts";
import { sleep } from "../../host/wait.ts";
import type { Logger } from "../../log.ts";
import {
  type CheckedInstance,
  type CheckOptions,
  type CreateContext,
  type CreatedInstance,
  type Room,
  type Source,
  type SourceData,
  type SourceStatus,
  type StoredInstance,
  sourceOf,
} from "../source.ts";
import { choose, sharesOf } from "./choose.ts";
import { Member, type Part } from "./member.ts";

export interface CompositeOptions {
  /** In the order in which they are asked. */
  parts: readonly Part[];
  /** How many unclaimed instances the pool wants in all. */
  warmInstances(): number;
  logger: Logger;
}

const CLEANUP_TIMEOUT_MS = 60_000;
/** The pool asks for what there is about as often. */
const ROOM_POLL_MS = 250;
const LONGEST_WAIT_MS = 5 * 60_000;
/** Of two that cost the same the later one is the dearer. */
const POSITION_COST = 1e-6;

export class CompositeSource implements Source {
  readonly name: string;
  readonly #members: readonly Member[];
  readonly #options: CompositeOptions;

  constructor(options: CompositeOptions) {
    this.#options = options;
    this.#members = options.parts.map((part) => new Member(part));
    this.name = options.parts.map(({ source }) => source.name).join(", ");
  }

  onLost(listener: (id: string, reason: string) => void): void {
    for (const { source } of this.#members) source.onLost(listener);
  }

  onTrouble(listener: (id: string, reason: string) => void): void {
    for (const { source } of this.#members) source.onTrouble?.(listener);
  }

  open(options: { sweep: boolean }): void {
    for (const { source } of this.#members) source.open?.(options);
  }

  async close(): Promise<void> {
    await Promise.all(this.#members.map(({ source }) => source.close?.()));
  }

  isOutdated(data: SourceData): boolean {
    return this.#memberOf(data)?.source.isOutdated?.(data) ?? false;
  }

  rests(data: SourceData): boolean {
    return this.#memberOf(data)?.source.rests?.(data) ?? false;
  }

  async rest(instance: StoredInstance, signal: AbortSignal): Promise<void> {
    await this.#memberOf(instance.data)?.source.rest?.(instance, signal);
  }

  async wake(instance: Omit<CheckedInstance, "isClaimed">, signal: AbortSignal): Promise<void> {
    await this.#memberOf(instance.data)?.source.wake?.(instance, signal);
  }

  rank(data: SourceData): number {
    const member = this.#memberOf(data);
    if (member === undefined) return Number.POSITIVE_INFINITY;
    return member.costPerHour + this.#members.indexOf(member) * POSITION_COST;
  }

  async check(instance: CheckedInstance, options: CheckOptions): Promise<string | undefined> {
    return this.#memberOf(instance.data)?.source.check?.(instance, options);
  }

  /** Tries one source after the other; what one has begun is removed before the next one is asked. */
  async create(context: CreateContext): Promise<CreatedInstance> {
    const { id, directory, signal } = context;
    const tried = new Set<Member>();
    for (;;) {
      const member = await this.#place(context, tried);
      tried.add(member);
      let data: SourceData = {};
      const save = async (next: SourceData): Promise<void> => {
        data = next;
        await context.save(next);
      };
      try {
        const created = await member.creates.within(signal, () => member.source.create({ ...context, save }));
        member.health.succeed();
        return created;
      } catch (error) {
        if (signal.aborted) throw error;
        member.health.hold(error);
        if (this.#able(tried).length === 0) throw error;
        this.#options.logger.warn("a source could not make an instance, so the next one is asked", {
          instance: id,
          source: member.source.name,
          error: describeError(error),
        });
        await this.#removeFrom(member, { id, directory, data }, signal, error);
        await context.save({});
      }
    }
  }

  async delete(instance: StoredInstance, signal: AbortSignal): Promise<void> {
    const { id } = instance;
    const member = this.#holderOf(id) ?? this.#memberOf(instance.data);
    if (member === undefined && Object.keys(instance.data).length > 0) {
      const name = sourceOf(instance.data);
      throw new FleetingdError(
        "NOT_FOUND",
        `${id} is at the source ${name}, which is not configured any more`,
        {
          hint: `Configure [sources.${name}] again until it is deleted.`,
        },
      );
    }
    if (member !== undefined) {
      await member.deletes.within(signal, () => member.source.delete(instance, signal));
    }
    member?.instances.delete(id);
  }

  async resume(instance: StoredInstance): Promise<boolean> {
    const member = this.#memberOf(instance.data);
    if (member === undefined) return false;
    this.#give(instance.id, member);
    return member.source.resume(instance);
  }

  async room(): Promise<Room> {
    await Promise.all(this.#members.map((member) => member.look()));
    const reason = (): string => this.#reason();
    return {
      vms: this.#members.reduce((sum, member) => sum + member.room, 0),
      // What was begun meanwhile may have taken the room.
      get reason() {
        return reason();
      },
      isScarce: this.#members.every(({ isScarce }) => isScarce),
    };
  }

  status(): readonly SourceStatus[] {
    return this.#members.map((member) => member.status());
  }

  /** Waits for room: others may have taken what there was a moment ago. */
  async #place(context: CreateContext, tried: ReadonlySet<Member>): Promise<Member> {
    const deadline = performance.now() + LONGEST_WAIT_MS;
    for (;;) {
      const member = this.#choose(context, tried);
      if (member !== undefined) {
        // At once: the next to be placed counts with it.
        this.#give(context.id, member);
        member.taken();
        return member;
      }
      if (performance.now() >= deadline) {
        throw new FleetingdError("EXHAUSTED", `no source has room: ${this.#reason()}`);
      }
      await sleep(ROOM_POLL_MS, context.signal);
    }
  }

  #choose({ id, unclaimed }: CreateContext, tried: ReadonlySet<Member>): Member | undefined {
    const idle = unclaimed?.() ?? [];
    const shares = sharesOf(
      this.#members.map(({ warmInstances }) => warmInstances),
      this.#options.warmInstances(),
    );
    const candidates = this.#members.map((member, index) => ({
      room: tried.has(member) ? 0 : member.room,
      share: shares[index] ?? 0,
      unclaimed: idle.filter((other) => other !== id && member.instances.has(other)).length,
    }));
    return this.#members[choose(candidates, !idle.includes(id)) ?? -1];
  }

  #able(tried: ReadonlySet<Member>): Member[] {
    return this.#members.filter((member) => !tried.has(member) && member.room > 0);
  }

  #reason(): string {
    return this.#members
      .map((member) => `${member.source.name}: ${member.problem ?? "it has room"}`)
      .join("; ");
  }

  #give(id: string, member: Member): void {
    this.#holderOf(id)?.instances.delete(id);
    member.instances.add(id);
  }

  #holderOf(id: string): Member | undefined {
    return this.#members.find(({ instances }) => instances.has(id));
  }

  #memberOf(data: SourceData): Member | undefined {
    if (Object.keys(data).length === 0) return undefined;
    return this.#members.find(({ source }) => source.name === sourceOf(data));
  }

  /** @throws `cause` if something may be left: then it is deleted later, and no other source is asked */
  async #removeFrom(
    member: Member,
    instance: StoredInstance,
    signal: AbortSignal,
    cause: unknown,
  ): Promise<void> {
    try {
      await member.source.delete(
        instance,
        AbortSignal.any([signal, AbortSignal.timeout(CLEANUP_TIMEOUT_MS)]),
      );
    } catch (error) {
      this.#options.logger.warn("what a source has begun could not be removed, which is tried again", {
        instance: instance.id,
        source: member.source.name,
        error: messageOf(error),
      });
      throw cause;
    }
  }
}
