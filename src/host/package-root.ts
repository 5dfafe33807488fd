/** Files that ship beside the code: templates, licences. */
import { join } from "node:path";
import { FleetingdError } from "../errors.ts";
import { exists } from "./files.ts";

let root: Promise<string> | undefined;

/**
 * The folder that holds package.json: this module runs from src/host/ and, bundled, from dist/.
 * @throws FleetingdError NOT_FOUND if the installation lacks it.
 */
export async function packageRoot(): Promise<string> {
  root ??= findUpwards(import.meta.dirname);
  return root;
}

/** The absolute path of a file that ships with the package, such as `templates/guest/ready`. */
export async function packageFile(...parts: string[]): Promise<string> {
  return join(await packageRoot(), ...parts);
}

async function findUpwards(start: string): Promise<string> {
  for (let directory = start; ; directory = join(directory, "..")) {
    if (await exists(join(directory, "package.json"))) return directory;
    if (directory === "/") break;
  }
  throw new FleetingdError("NOT_FOUND", `found no package.json in ${start} or above it`, {
    hint: "Install fleetingd again: its files are not complete.",
  });
}
