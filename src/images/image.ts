/** The data that the images domain hands to others. */

/** What a distribution publishes, verified and unpacked: immutable once it is in the cache. */
export interface BaseImage {
  /** Names the content: source, release and a hash. */
  name: string;
  diskPath: string;
  diskFormat: "raw" | "qcow2";
  kernelPath: string;
  initrdPath: string | undefined;
  /** What `root=` names on the kernel command line: `/dev/vda`, `/dev/vda1` or `LABEL=…`. */
  rootDevice: string;
  /** More for the kernel command line, for images that need it. */
  kernelArguments: readonly string[];
  /** When it was fetched or built. */
  createdAt: Date;
}

/** A base image after the prebuild VM: what clones are made of; immutable. */
export interface GoldenImage {
  /** A hash of all that went into it, and of the time if it was made anew of the same. */
  name: string;
  /** The hash without the time: the same for all that were made of the same. */
  inputs: string;
  /** The name of its base image; undefined if an older version made it, which did not note that. */
  baseName: string | undefined;
  directory: string;
  /** Sparse, so that it can be reflinked or be a qcow2 overlay's backing file. */
  diskPath: string;
  diskFormat: "raw";
  /** An empty overlay on that disk. */
  overlayPath: string;
  kernelPath: string;
  initrdPath: string | undefined;
  rootDevice: string;
  kernelArguments: readonly string[];
  createdAt: Date;
}

/** What a template VM of a golden image was when it had come to rest: what clones go on from; immutable. */
export interface SnapshotImage {
  /** A hash of the golden image's name and of all that a clone must have in common with the template. */
  name: string;
  goldenImage: string;
  directory: string;
  diskPath: string;
  diskFormat: "raw" | "qcow2";
  /** An empty overlay on that disk. */
  overlayPath: string;
  memoryPath: string;
  /** The golden image's kernel, uncompressed; undefined if that was not possible, or of no use. */
  kernelPath: string | undefined;
  stateDirectory: string;
  createdAt: Date;
}

/** Told while something long goes on. */
export type OnProgress = (progress: { step: string; doneBytes?: number; totalBytes?: number }) => void;
