/** Brings disk images of different formats into one: raw and sparse, self-contained. */
import * as z from "zod";
import { FleetingdError } from "../errors.ts";
import { run } from "../host/run.ts";

const COPY_TIMEOUT_MS = 30 * 60_000;

/** What a program says of a full disk is read by us. */
const UNTRANSLATED = { LC_ALL: "C" };

const ImageInfo = z.object({
  format: z.string(),
  "backing-filename": z.string().optional(),
  encrypted: z.boolean().optional(),
  "format-specific": z.object({ data: z.looseObject({ "data-file": z.string().optional() }) }).optional(),
});

/**
 * The format of a disk image that stands for itself.
 * @throws FleetingdError INVALID_ARGUMENT for other formats, encrypted images, and images that refer to other files: a
 *   disk could otherwise make any file of this host its content.
 */
export async function inspectDisk(path: string, signal?: AbortSignal): Promise<"raw" | "qcow2"> {
  const { stdout } = await run("qemu-img", ["info", "--force-share", "--output=json", "--", path], {
    signal,
  });
  const info = ImageInfo.parse(JSON.parse(stdout));
  const refuse = (reason: string, hint: string): FleetingdError =>
    new FleetingdError("INVALID_ARGUMENT", `the disk image ${path} ${reason}`, { hint });
  if (info["backing-filename"] !== undefined) {
    throw refuse(
      `is only a difference to another file (${info["backing-filename"]})`,
      `Make one complete image of both: qemu-img convert -O qcow2 ${path} NEW`,
    );
  }
  if (info["format-specific"]?.data["data-file"] !== undefined) {
    throw refuse(
      "keeps its data in another file",
      `Make one image of both: qemu-img convert -O qcow2 ${path} NEW`,
    );
  }
  if (info.encrypted) throw refuse("is encrypted", "Give a decrypted one.");
  if (info.format === "raw" || info.format === "qcow2") return info.format;
  throw refuse(
    `has the format ${info.format}, not raw or qcow2`,
    `Convert it: qemu-img convert -f ${info.format} -O qcow2 ${path} NEW`,
  );
}

/**
 * Writes `source` as a sparse raw image to `target`, by reflink where that is possible.
 * @throws FleetingdError COMMAND_FAILED, TIMEOUT, CANCELLED
 */
export async function importDisk(
  source: string,
  format: "raw" | "qcow2",
  target: string,
  signal?: AbortSignal,
): Promise<void> {
  if (format === "raw") return copySparse(source, target, signal);
  // Many writes out of order at once are what makes conversion to a sparse file quick.
  const args = ["convert", "-W", "-m", "4", "-f", "qcow2", "-O", "raw", "--", source, target];
  await run("qemu-img", args, { timeoutMs: COPY_TIMEOUT_MS, signal, env: UNTRANSLATED });
}

/** Not Node's copyFile: where there are no reflinks it would write every hole of a sparse file. */
export async function copySparse(source: string, target: string, signal?: AbortSignal): Promise<void> {
  const args = ["--reflink=auto", "--sparse=always", "--no-preserve=mode", "--", source, target];
  await run("cp", args, { timeoutMs: COPY_TIMEOUT_MS, signal, env: UNTRANSLATED });
}
