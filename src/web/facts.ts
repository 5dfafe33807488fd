/** What the web page needs of the daemon, and may do to it. */
import type { LoggedEvent } from "../api/events.ts";
import type { ImageList } from "../api/images.ts";
import type { DaemonStatus } from "../api/status.ts";
import type { PageParts } from "./messages.ts";

export interface DaemonFacts {
  status(): Promise<DaemonStatus>;
  /** Looks at the disks. */
  images(): Promise<ImageList>;
  distributions(): Promise<PageParts["distributions"]>;
  events: {
    /** Oldest first; of one instance, or all. */
    list(instance?: string): readonly LoggedEvent[];
    /** @returns what ends it */
    follow(instance: string | undefined, follower: (event: LoggedEvent) => void): () => void;
  };
  /** Where the console of an instance is logged; undefined if there is no such instance. */
  consolePath(instance: string): string | undefined;
}

/** Each answers when it is settled that it is done, and throws a FleetingdError that says what stands against it. */
export interface DaemonActions {
  /** Makes no more VMs from now on, or makes them again. */
  drain(held: boolean): Promise<void>;
  /** Makes a pool's golden image anew, or joins the prebuild that is under way. */
  prebuild(pool: string): Promise<void>;
  /** Ends a VM, whoever has it. */
  remove(instance: string): Promise<void>;
}
