/**
 * Tells everybody who looks how the daemon is: one picture a second for all of them together, and none for nobody.
 *
 * Invariants:
 * - Whoever comes is told a whole picture first, then every change since exactly that one.
 * - A viewer has at most one message on its way: one that is slower misses changes, and is told a whole picture instead.
 */

import type { LoggedEvent } from "../api/events.ts";
import type { ImageStatus } from "../api/images.ts";
import { messageOf } from "../errors.ts";
import type { Logger } from "../log.ts";
import type { DaemonFacts } from "./facts.ts";
import type { PageEvent, PageStart, PictureChange, WholePicture } from "./messages.ts";
import { pageEvent, pageStart } from "./page-event.ts";
import { changeOf, type Picture, pictureOf, toPageJson } from "./picture.ts";

export interface Viewer {
  /** @returns whether it can take another message at once; if not, `ready` is called when it can */
  send(json: string): boolean;
  onReady(listener: () => void): void;
}

interface Progress {
  /** The last message is on its way still. */
  isBusy: boolean;
  /** It was not told everything since its last whole picture, or had none yet. */
  isBehind: boolean;
}

const PERIOD_MS = 1_000;
/** What disks are asked for is asked seldom. */
const IMAGES_PERIOD_MS = 60_000;
const SHOWN_EVENTS = 100;
const SHOWN_STARTS = 40;

export class Broadcast {
  readonly #facts: DaemonFacts;
  readonly #logger: Logger;
  readonly #viewers = new Map<Viewer, Progress>();
  #picture: Picture | undefined;
  #looking: Promise<Picture> | undefined;
  #timer: NodeJS.Timeout | undefined;
  #images: ImageStatus[] | null = null;
  #imagesAt = Number.NEGATIVE_INFINITY;
  /** Since the last picture. */
  #events: LoggedEvent[] = [];
  #unfollow: () => void = () => undefined;

  constructor(facts: DaemonFacts, logger: Logger) {
    this.#facts = facts;
    this.#logger = logger;
  }

  get viewers(): number {
    return this.#viewers.size;
  }

  /** @returns what ends it */
  async join(viewer: Viewer): Promise<() => void> {
    const progress: Progress = { isBusy: false, isBehind: true };
    this.#viewers.set(viewer, progress);
    if (this.#viewers.size === 1) this.#begin();
    viewer.onReady(() => {
      progress.isBusy = false;
      this.#catchUp(viewer);
    });
    try {
      await (this.#picture === undefined ? this.#look() : undefined);
      this.#catchUp(viewer);
    } catch (error) {
      this.#leave(viewer);
      throw error;
    }
    return () => this.#leave(viewer);
  }

  close(): void {
    for (const viewer of this.#viewers.keys()) this.#leave(viewer);
  }

  #begin(): void {
    this.#unfollow = this.#facts.events.follow(undefined, (event) => this.#events.push(event));
    this.#timer = setInterval(() => void this.#lookQuietly(), PERIOD_MS);
  }

  #leave(viewer: Viewer): void {
    if (!this.#viewers.delete(viewer) || this.#viewers.size > 0) return;
    clearInterval(this.#timer);
    this.#unfollow();
    this.#events = [];
    this.#picture = undefined;
  }

  /** One look at a time, whoever wants it. */
  #look(): Promise<Picture> {
    this.#looking ??= this.#lookOnce().finally(() => {
      this.#looking = undefined;
    });
    return this.#looking;
  }

  async #lookQuietly(): Promise<void> {
    try {
      await this.#look();
    } catch (error) {
      this.#logger.error("the web page can't be told how the daemon is", { error: messageOf(error) });
    }
  }

  async #lookOnce(): Promise<Picture> {
    void this.#lookForImages();
    const [status, distributions] = await Promise.all([this.#facts.status(), this.#facts.distributions()]);
    const before = this.#picture;
    const after = pictureOf({ status, distributions, images: this.#images }, before, Date.now());
    const events = this.#events;
    // All of them may have gone meanwhile.
    if (this.#viewers.size === 0) return after;
    this.#events = [];
    this.#picture = after;
    if (before !== undefined) this.#tell({ ...changeOf(before, after), ...shown(events) });
    return after;
  }

  async #lookForImages(): Promise<void> {
    if (performance.now() - this.#imagesAt < IMAGES_PERIOD_MS) return;
    this.#imagesAt = performance.now();
    try {
      this.#images = [...(await this.#facts.images()).images];
    } catch (error) {
      this.#logger.warn("images can't be listed for the web page", { error: messageOf(error) });
    }
  }

  #tell(change: PictureChange): void {
    const json = toPageJson(change);
    for (const [viewer, progress] of this.#viewers) {
      if (progress.isBusy) progress.isBehind = true;
      else if (!progress.isBehind) progress.isBusy = !viewer.send(json);
    }
  }

  #catchUp(viewer: Viewer): void {
    const picture = this.#picture;
    const progress = this.#viewers.get(viewer);
    if (picture === undefined || progress?.isBehind !== true || progress.isBusy) return;
    const whole: WholePicture = {
      ...picture,
      kind: "all",
      instances: [...picture.instances.values()],
      ...shown(this.#facts.events.list().slice(0, -this.#events.length || undefined)),
    };
    progress.isBehind = false;
    progress.isBusy = !viewer.send(toPageJson(whole));
  }
}

function shown(events: readonly LoggedEvent[]): { events: PageEvent[]; starts: PageStart[] } {
  return {
    events: newest(events, SHOWN_EVENTS, pageEvent),
    starts: newest(events, SHOWN_STARTS, pageStart),
  };
}

/** From the end, so that the length of the list costs nothing. */
function newest<T>(
  events: readonly LoggedEvent[],
  count: number,
  of: (event: LoggedEvent) => T | undefined,
): T[] {
  const found: T[] = [];
  for (let index = events.length - 1; index >= 0 && found.length < count; index--) {
    const event = events[index];
    const one = event && of(event);
    if (one !== undefined) found.push(one);
  }
  return found.reverse();
}
