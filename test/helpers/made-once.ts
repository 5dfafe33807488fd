/** What tests need and takes long to make: folders in `.cache`, made once, whole or not at all. */
import { createHash } from "node:crypto";
import { chmod, mkdir, mkdtemp, rename } from "node:fs/promises";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { exists, removeTree } from "../../src/host/files.ts";
import { withLock } from "../../src/host/lock.ts";

const CACHE = fileURLToPath(new URL("../../.cache", import.meta.url));
const TIMEOUT_MS = 600_000;

/** @param recipe all that it is made of: of another one another folder is made */
export function cacheFolder(name: string, recipe: unknown): string {
  const version = createHash("sha256").update(JSON.stringify(recipe)).digest("hex").slice(0, 12);
  return join(CACHE, name, version);
}

/** @param make is given an empty folder, which becomes this one. @returns `folder` */
export async function makeOnce(folder: string, make: (scratch: string) => Promise<unknown>): Promise<string> {
  if (await exists(folder)) return folder;
  const parent = dirname(folder);
  await mkdir(parent, { recursive: true });
  await withLock(join(parent, "lock"), { timeoutMs: TIMEOUT_MS }, async () => {
    if (await exists(folder)) return;
    const scratch = await mkdtemp(join(parent, "making-"));
    try {
      // A root must let everybody in while it is made.
      await chmod(scratch, 0o755);
      await make(scratch);
      await rename(scratch, folder);
    } finally {
      // It is there only if something went wrong.
      await removeTree(scratch);
    }
  });
  return folder;
}
