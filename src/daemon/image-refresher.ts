/**
 * Keeps golden images new: in the background, one pool after the other, while jobs run. What becomes of VMs of the older
 * image is the pools' business.
 */
import type { Logger } from "../log.ts";
import { type Backoff, createBackoff } from "../pool/backoff.ts";
import type { Pool } from "../pool/pool.ts";
import type { GoldenImages } from "../sources/local/golden-images.ts";

export interface RefreshedPool {
  config: { prebuildIntervalMs: number };
  pool: Pick<Pool, "name" | "isInUse">;
  images: Pick<GoldenImages, "status" | "refresh">;
}

export interface RefreshFacts {
  /** Whether the pool makes VMs; otherwise its first one makes the image. */
  inUse: boolean;
  /** When its golden image was made; undefined if there is none. Milliseconds since 1970. */
  madeAt: number | undefined;
  /** 0: an image never gets too old. */
  intervalMs: number;
}

const CHECK_MS = 15_000;
const FIRST_RETRY_MS = 5 * 60_000;
const MAX_RETRY_MS = 6 * 60 * 60_000;

/** How long until a new image is to be made, in milliseconds, 0 for now; undefined for never. */
export function refreshIn({ inUse, madeAt, intervalMs }: RefreshFacts, now: number): number | undefined {
  if (!inUse) return undefined;
  if (madeAt === undefined) return 0;
  return intervalMs === 0 ? undefined : Math.max(0, madeAt + intervalMs - now);
}

export class ImageRefresher {
  readonly #pools: () => readonly RefreshedPool[];
  readonly #afterwards: () => Promise<void>;
  readonly #logger: Logger;
  readonly #stopped = new AbortController();
  /** Of pools whose last refresh failed; `retryAt` in milliseconds of `performance.now()`. */
  readonly #failed = new Map<string, { backoff: Backoff; retryAt: number }>();
  #timer: NodeJS.Timeout | undefined;
  #checking: Promise<void> | undefined;

  /** @param afterwards called after each new image */
  constructor(pools: () => readonly RefreshedPool[], afterwards: () => Promise<void>, logger: Logger) {
    this.#pools = pools;
    this.#afterwards = afterwards;
    this.#logger = logger;
  }

  start(): void {
    this.#timer = setInterval(() => void this.check(), CHECK_MS);
    void this.check();
  }

  /** Resolves when no check is under way any more; whoever stops ends the prebuilds, too. */
  async stop(): Promise<void> {
    clearInterval(this.#timer);
    this.#stopped.abort();
    await this.#checking;
  }

  /** Makes what is due; a check that is under way is not begun twice. */
  check(): Promise<void> {
    this.#checking ??= this.#refreshDue().finally(() => {
      this.#checking = undefined;
    });
    return this.#checking;
  }

  /** How long until the pool's next refresh, in milliseconds; undefined for never. */
  nextIn(one: RefreshedPool, now = Date.now()): number | undefined {
    const { current } = one.images.status;
    const { prebuildIntervalMs: intervalMs } = one.config;
    const facts = { inUse: one.pool.isInUse, madeAt: current?.createdAt.getTime(), intervalMs };
    const dueInMs = refreshIn(facts, now);
    const retryAt = this.#failed.get(one.pool.name)?.retryAt ?? 0;
    return dueInMs === undefined ? undefined : Math.max(dueInMs, retryAt - performance.now());
  }

  async #refreshDue(): Promise<void> {
    for (const one of this.#pools()) {
      if (this.#stopped.signal.aborted) return;
      const nextInMs = this.nextIn(one);
      if (nextInMs !== undefined && nextInMs <= 0) await this.#refresh(one);
    }
  }

  async #refresh({ config, pool, images }: RefreshedPool): Promise<void> {
    const { name } = pool;
    const maxAgeMs = config.prebuildIntervalMs === 0 ? {} : { maxAgeMs: config.prebuildIntervalMs };
    const { signal } = this.#stopped;
    try {
      await images.refresh({ force: false, ...maxAgeMs, signal, onStep: () => undefined });
      this.#failed.delete(name);
      await this.#afterwards();
    } catch {
      if (signal.aborted) return;
      const backoff =
        this.#failed.get(name)?.backoff ?? createBackoff({ initialMs: FIRST_RETRY_MS, maxMs: MAX_RETRY_MS });
      const pauseMs = backoff.fail();
      this.#failed.set(name, { backoff, retryAt: performance.now() + pauseMs });
      // What went wrong is in the log already.
      this.#logger.warn("a new golden image is tried again later", {
        pool: name,
        inUse: images.status.current?.name ?? "none",
        retryInSeconds: Math.round(pauseMs / 1000),
      });
    }
  }
}
