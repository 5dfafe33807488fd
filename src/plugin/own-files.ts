/** Files that are installed beside the bundled plugin. */
import { readFile, realpath } from "node:fs/promises";
import { dirname, join } from "node:path";
import { FleetingdError } from "../errors.ts";

/** Made by the build: this program's licence and those of all that is bundled. */
export const LICENSES_FILE = "licenses.txt";

/** The folder of the program that runs. */
export async function ownDirectory(): Promise<string> {
  return dirname(await realpath(process.argv[1] ?? "."));
}

/** @throws FleetingdError NOT_FOUND */
export async function licensesText(): Promise<string> {
  const path = join(await ownDirectory(), LICENSES_FILE);
  try {
    return await readFile(path, "utf8");
  } catch (error) {
    throw new FleetingdError("NOT_FOUND", `could not read the licences from ${path}`, {
      hint: "They come with an installed package; see LICENSE in the source tree otherwise.",
      cause: error,
    });
  }
}
