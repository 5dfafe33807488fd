/** The description that lies beside a base image's files: `image.json`. */
import { join } from "node:path";
import * as z from "zod";
import { FleetingdError } from "../errors.ts";
import { readTextIfExists, writeFileAtomic } from "../host/files.ts";
import type { BaseImage } from "./image.ts";

const FILE = "image.json";

const Stored = z.object({
  name: z.string(),
  disk: z.string(),
  diskFormat: z.enum(["raw", "qcow2"]),
  kernel: z.string(),
  initrd: z.string().optional(),
  rootDevice: z.string(),
  kernelArguments: z.array(z.string()),
  createdAt: z.iso.datetime(),
});
/** A base image with file names relative to its folder. */
export type StoredBaseImage = z.infer<typeof Stored>;

export async function writeBaseImage(directory: string, image: StoredBaseImage): Promise<void> {
  await writeFileAtomic(join(directory, FILE), `${JSON.stringify(image, null, 2)}\n`);
}

/**
 * The base image in `directory`, or undefined if there is none.
 * @throws FleetingdError CORRUPT if its description cannot be read.
 */
export async function readBaseImage(directory: string): Promise<BaseImage | undefined> {
  const path = join(directory, FILE);
  const text = await readTextIfExists(path);
  if (text === undefined) return undefined;
  const image = parse(path, text);
  return {
    name: image.name,
    diskPath: join(directory, image.disk),
    diskFormat: image.diskFormat,
    kernelPath: join(directory, image.kernel),
    initrdPath: image.initrd === undefined ? undefined : join(directory, image.initrd),
    rootDevice: image.rootDevice,
    kernelArguments: image.kernelArguments,
    createdAt: new Date(image.createdAt),
  };
}

function parse(path: string, text: string): StoredBaseImage {
  try {
    return Stored.parse(JSON.parse(text));
  } catch (error) {
    throw new FleetingdError("CORRUPT", `${path} does not describe an image`, {
      hint: "Remove its folder; the image is then made again.",
      cause: error,
    });
  }
}
