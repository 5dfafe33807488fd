import { readFile } from "node:fs/promises";
import { FleetingdError, systemErrorCode } from "../../errors.ts";

/** The text of the file that `key` of a source's configuration names. @throws FleetingdError INVALID_CONFIG if it can't be read */
export async function readNamedFile(path: string, key: string): Promise<string>;
/** The same, where the key may be left out. */
export async function readNamedFile(path: string | undefined, key: string): Promise<string | undefined>;
export async function readNamedFile(path: string | undefined, key: string): Promise<string | undefined> {
  if (path === undefined) return undefined;
  try {
    return await readFile(path, "utf8");
  } catch (error) {
    const reason = systemErrorCode(error) ?? String(error);
    throw new FleetingdError("INVALID_CONFIG", `${path} (${key}) can't be read: ${reason}`, { cause: error });
  }
}
