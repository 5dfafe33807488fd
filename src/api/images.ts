/** What `Images` and `CollectGarbage` answer. JSON, so no undefined and no dates. */

export interface ImageList {
  images: readonly ImageStatus[];
}

export interface ImageStatus {
  kind: "golden" | "base";
  name: string;
  /** Where it lies: the pool's `vm_disk_directory`. */
  directory: string;
  /** Pools whose new VMs, or next golden image, are made of it. */
  pools: readonly string[];
  /** The base image that a golden image was made of; null for a base image, or if that was not noted. */
  base: string | null;
  ageSeconds: number;
  /** What it takes on its disk. */
  bytes: number;
  /** How many VMs are made of it; those of a base image are its golden images' business. */
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
  removed: readonly { kind: "golden" | "base" | "pointer" | "leftover"; path: string; bytes: number }[];
}
