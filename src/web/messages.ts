/**
 * What the web page is told: a whole picture first, then what has changed, once a second at most. Types alone, for the
 * daemon and the page have them in common.
 */
import type { ImageStatus } from "../api/images.ts";
import type { DaemonStatus, InstanceStatus, PoolStatus } from "../api/status.ts";
import type { Distribution } from "../metrics/distributions.ts";

export interface PageInstance extends Omit<InstanceStatus, "ageSeconds"> {
  /** Milliseconds since 1970 by the daemon's clock; an age would change every second. */
  createdAt: number;
}

export interface PageEvent {
  /** ISO 8601, UTC. */
  time: string;
  pool: string | null;
  instance: string | null;
  /** A sentence without its end. */
  what: string;
  isProblem: boolean;
}

/** An instance that got ready, or could not be made. */
export interface PageStart {
  instance: string;
  pool: string;
  /** When that was; ISO 8601, UTC. */
  time: string;
  seconds: number;
  /** Null for one that could not be made: only the phase that it failed in is known. */
  phases: { name: string; seconds: number }[] | null;
  failedIn: string | null;
}

/** What is sent anew as a whole when something of it has changed. */
export interface PageParts {
  daemon: Omit<DaemonStatus, "pools" | "instances" | "uptimeSeconds"> & {
    host: string;
    startedAt: number;
  };
  pools: PoolStatus[];
  distributions: { creation: Distribution[]; claimWait: Distribution[] };
  /** Null until they were looked for, which is seldom. */
  images: ImageStatus[] | null;
}

/** Everything, to whoever has just come or could not follow. */
export interface WholePicture extends PageParts {
  kind: "all";
  /** Milliseconds since 1970. */
  at: number;
  instances: PageInstance[];
  /** The newest, oldest first, and so below. */
  events: PageEvent[];
  starts: PageStart[];
}

/** What differs from the message before. */
export interface PictureChange extends Partial<PageParts> {
  kind: "change";
  at: number;
  /** New ones, and those of which anything has changed. */
  instances: PageInstance[];
  /** Ids of those that are gone. */
  gone: string[];
  events: PageEvent[];
  starts: PageStart[];
}

/** What the page can ask of the daemon. */
export type PageAction =
  | { action: "drain" | "undo-drain" }
  | { action: "prebuild"; pool: string }
  | { action: "remove"; instance: string };

/** What this viewer may do; told before everything else. */
export interface Access {
  consoles: boolean;
  /** It may change something. */
  actions: boolean;
  /** It has shown a token, and may end its session. */
  session: boolean;
}

export type PageMessage = WholePicture | PictureChange;
