/** `fleetingd image export` and `import`: images for hosts that reach no server. Needs no daemon. */
import { join } from "node:path";
import { loadConfig } from "../config/load.ts";
import { FleetingdError } from "../errors.ts";
import { interruptible } from "../host/interrupt.ts";
import { withLock } from "../host/lock.ts";
import { type ArchiveOptions, exportImages, importImages } from "../images/archive.ts";
import { IMAGES_LOCK } from "../sources/local/golden-images.ts";
import { chosenPools } from "./chosen-pools.ts";
import { type CliCommand, EXIT, type GlobalOptions } from "./context.ts";
import { createProgress } from "./progress.ts";

export interface ImageOptions extends GlobalOptions {
  archive: string;
  /** Whose images; undefined where all pools have them in one place. */
  pool?: string | undefined;
}

const LOCK_TIMEOUT_MS = 2 * 60 * 60_000;

type Work = (archivePath: string, options: ArchiveOptions) => Promise<string[]>;

export const imageExport: CliCommand<ImageOptions> = work(exportImages);
export const imageImport: CliCommand<ImageOptions> = work(importImages);

function work(move: Work): CliCommand<ImageOptions> {
  return async (options, context) => {
    const diskDirectory = await directoryOf(options);
    const progress = createProgress(context);
    return interruptible(async (signal) => {
      const lock = {
        timeoutMs: LOCK_TIMEOUT_MS,
        signal,
        onWait: () => progress.update("waiting for another process that works on images"),
      };
      try {
        const names = await withLock(join(diskDirectory, IMAGES_LOCK), lock, () =>
          move(options.archive, { diskDirectory, signal, onProgress: ({ step }) => progress.update(step) }),
        );
        progress.end();
        for (const name of names) context.out(name);
        return EXIT.ok;
      } finally {
        progress.end();
      }
    });
  };
}

async function directoryOf({ config: path, pool: wanted }: ImageOptions): Promise<string> {
  const { pools } = (await loadConfig(path)).config;
  const chosen = chosenPools(pools, wanted);
  const [directory = "", ...others] = new Set(chosen.map(([, { diskDirectory }]) => diskDirectory));
  if (others.length === 0) return directory;
  throw new FleetingdError("INVALID_ARGUMENT", "the pools have their images in several directories", {
    hint: `Name a pool after the archive: ${chosen.map(([name]) => name).join(", ")}.`,
  });
}
