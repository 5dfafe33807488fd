/**
 * Compares what a cloud says that there is with what there should be, again and again: an expected machine that is missing in
 * several lists is lost, one of ours that no record names is removed. A list that could not be had says nothing.
 */
import { describeError, messageOf } from "../../errors.ts";
import type { Logger } from "../../log.ts";
import type { Cloud, ListedMachine, Owner } from "./cloud.ts";
import type { RemoteConfig } from "./config.ts";
import type { Health } from "./health.ts";

export interface WatchOptions {
  cloud: Cloud;
  owner: Owner;
  health: Health;
  /** Ids of all that the pool knows. */
  known: ReadonlySet<string>;
  config: Pick<RemoteConfig, "pollIntervalMs" | "missedPolls" | "requestTimeoutMs" | "deleteTimeoutMs">;
  logger: Logger;
}

/** A list is made of several requests, each of which may take its time. */
const LIST_TIMEOUTS = 4;
/** A cloud's list may be a little behind: what was just deleted may still be in it. */
const STRANGER_POLLS = 2;
const LONGEST_PAUSE_MS = 60_000;
/** Events come in bursts. */
const CHANGE_DELAY_MS = 100;

export class Watch {
  onLost: (id: string, reason: string) => void = () => undefined;
  readonly #options: WatchOptions;
  /** What should be there, and in how many lists in a row it was not. */
  readonly #missed = new Map<string, number>();
  /** Ours that no record names, and in how many lists in a row they were. */
  readonly #strangers = new Map<string, number>();
  readonly #ended = new AbortController();
  #timer: NodeJS.Timeout | undefined;
  #polling: Promise<void> | undefined;
  #sweep = false;
  #failures = 0;
  #again = false;

  constructor(options: WatchOptions) {
    this.#options = options;
    options.cloud.onChange?.(() => this.#soon());
  }

  /** The machine is ready: from now on it must be there. */
  expect(id: string): void {
    this.#missed.set(id, 0);
  }

  forget(id: string): void {
    this.#missed.delete(id);
  }

  start({ sweep }: { sweep: boolean }): void {
    this.#sweep = sweep;
    this.#schedule(0);
  }

  async stop(): Promise<void> {
    this.#ended.abort();
    clearTimeout(this.#timer);
    await this.#polling;
  }

  #soon(): void {
    if (this.#polling !== undefined) this.#again = true;
    else if (this.#timer !== undefined && this.#failures === 0) this.#schedule(CHANGE_DELAY_MS);
  }

  #schedule(delayMs: number): void {
    if (this.#ended.signal.aborted) return;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => {
      this.#polling = this.#poll().finally(() => {
        this.#polling = undefined;
        const { pollIntervalMs } = this.#options.config;
        const pauseMs = pollIntervalMs * 2 ** Math.min(this.#failures, 10);
        const isPending = this.#again && this.#failures === 0;
        this.#again = false;
        this.#schedule(
          isPending ? CHANGE_DELAY_MS : Math.max(pollIntervalMs, Math.min(LONGEST_PAUSE_MS, pauseMs)),
        );
      });
    }, delayMs);
  }

  async #poll(): Promise<void> {
    const { cloud, owner, health, logger, config } = this.#options;
    const expected = [...this.#missed.keys()];
    const signal = AbortSignal.any([
      this.#ended.signal,
      AbortSignal.timeout(LIST_TIMEOUTS * config.requestTimeoutMs),
    ]);
    try {
      const listed = await cloud.list(owner, signal);
      if (this.#failures > 0)
        logger.info("a source answers again", { stage: "ANALYSIS", source: cloud.description });
      this.#failures = 0;
      health.succeed();
      this.#compare(expected, listed);
      await this.#removeStrangers(listed);
    } catch (error) {
      if (this.#ended.signal.aborted) return;
      health.fail(error);
      // Once, not at each poll.
      if (this.#failures++ === 0) {
        logger.error("a source does not answer", {
          stage: "ANALYSIS",
          source: cloud.description,
          error: describeError(error),
        });
      }
    }
  }

  #compare(expected: readonly string[], listed: readonly ListedMachine[]): void {
    const machines = new Map(listed.map((machine) => [machine.id, machine]));
    for (const id of expected) {
      const before = this.#missed.get(id);
      // It was deleted meanwhile.
      if (before === undefined) continue;
      const machine = machines.get(id);
      if (machine?.state === "gone") {
        this.#lose(id, `its machine ended: ${machine.reason ?? "it does not run any more"}`);
        continue;
      }
      const missed = machine === undefined ? before + 1 : 0;
      this.#missed.set(id, missed);
      if (missed < this.#options.config.missedPolls) continue;
      this.#lose(
        id,
        `its machine is gone: ${this.#options.cloud.description} did not list it ${missed} times`,
      );
    }
  }

  #lose(id: string, reason: string): void {
    this.#missed.delete(id);
    this.onLost(id, reason);
  }

  async #removeStrangers(listed: readonly ListedMachine[]): Promise<void> {
    const { cloud, known, owner, logger, config } = this.#options;
    const nobodys = listed.filter(({ id }) => !known.has(id));
    for (const id of this.#strangers.keys()) {
      if (!nobodys.some((machine) => machine.id === id)) this.#strangers.delete(id);
    }
    if (!this.#sweep) return;
    for (const { id } of nobodys) {
      const seen = (this.#strangers.get(id) ?? 0) + 1;
      this.#strangers.set(id, seen);
      if (seen < STRANGER_POLLS || this.#ended.signal.aborted) continue;
      logger.warn("removing a machine of ours that has no record", {
        stage: "CLEANUP",
        instance: id,
        source: cloud.description,
      });
      try {
        const signal = AbortSignal.any([this.#ended.signal, AbortSignal.timeout(config.deleteTimeoutMs)]);
        await cloud.remove({ id, owner, data: {} }, signal);
      } catch (error) {
        logger.warn("a machine that has no record could not be removed, which is tried again", {
          stage: "CLEANUP",
          instance: id,
          error: messageOf(error),
        });
      }
    }
  }
}
