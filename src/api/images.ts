/** What `Images` and `CollectGarbage` answer. JSON, so no undefined and no dates. */

export interface ImageList {
  images: readonly ImageStatus[];
}

export interface ImageStatus {
  kind: "golden" | "base" | "snapshot";
  name: string;
  /** Where it lies: the pool's `vm_disk_directory`. */
  directory: string;
  /** Pools whose new VMs, or next golden image, are made of it. */
  pools: readonly string[];
  /** What it was made of: a golden image's base image, a snapshot's golden image; null if that was not noted, and for a base image. */
  base: string | null;
  ageSeconds: number;
  /** What it takes on its disk. */
  bytes: number;
  /** How many VMs are made of it, those of a snapshot also of its golden image; a base image has none itself. */
  vms: number;
  /** Whether it is what a pool uses now. */
  current: boolean;
}

export interface GcReport {
  dryRun: boolean;
  directories: readonly GcDirectory[];
}

export interface GcDirectory {
  directory: string;
  /** Why nothing was looked for; null if it was. */
  skipped: string | null;
  /** What was removed, or would be. */
  removed: readonly {
    kind: "golden" | "base" | "snapshot" | "pointer" | "leftover";
    path: string;
    bytes: number;
  }[];
}
