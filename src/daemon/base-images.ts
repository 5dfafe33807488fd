/** Base images of the configuration, for the daemon's prebuilds and for whoever fetches them ahead of it. */
import { join } from "node:path";
import type { Config, ImageConfig } from "../config/types.ts";
import { FleetingdError } from "../errors.ts";
import { withLock } from "../host/lock.ts";
import type { BaseImage, OnProgress } from "../images/image.ts";
import { ensureBaseImage } from "../images/select.ts";
import type { Logger } from "../log.ts";
import { IMAGES_LOCK } from "../sources/local/golden-images.ts";

export interface FetchOptions {
  diskDirectory: string;
  signal: AbortSignal;
  onProgress: OnProgress;
  logger: Logger;
}

const LOCK_TIMEOUT_MS = 60 * 60_000;

/** @throws FleetingdError INVALID_CONFIG if the configuration has no image of that name */
export function imageOf(config: Config, poolName: string, imageName: string): ImageConfig {
  const image = config.images[imageName];
  if (image !== undefined) return image;
  throw new FleetingdError(
    "INVALID_CONFIG",
    `pool ${poolName}: there is no image ${JSON.stringify(imageName)}`,
    {
      hint: `Add a table [images.${imageName}], or name one of: ${Object.keys(config.images).join(", ")}.`,
    },
  );
}

/** Finds, downloads or builds a base image, while nobody else works on the images of that directory. */
export async function fetchBaseImage(image: ImageConfig, options: FetchOptions): Promise<BaseImage> {
  const onWait = () => options.onProgress({ step: "waiting for another process that works on these images" });
  const lock = { timeoutMs: LOCK_TIMEOUT_MS, signal: options.signal, onWait };
  return withLock(join(options.diskDirectory, IMAGES_LOCK), lock, () => ensureBaseImage(image, options));
}
