/**
 * Programs of Debian packages that are not installed, for their maintainer scripts would start services: unpacked into a
 * folder, run with the libraries that are there. `prepareDebianPrograms` needs a network; a second call finds everything.
 */
import { createHash } from "node:crypto";
import { mkdir, mkdtemp, rename } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { exists, removeTree } from "../../src/host/files.ts";
import { withLock } from "../../src/host/lock.ts";
import { run } from "../../src/host/run.ts";

const CACHE = fileURLToPath(new URL("../../.cache/debian-programs", import.meta.url));
const SUITE = "trixie";
const PACKAGES = ["apt-cacher-ng", "docker-registry"];
const VERSION = createHash("sha256")
  .update(JSON.stringify([SUITE, PACKAGES]))
  .digest("hex");
const ROOT = join(CACHE, VERSION.slice(0, 12));

export async function prepareDebianPrograms(): Promise<void> {
  if (await exists(ROOT)) return;
  await mkdir(CACHE, { recursive: true });
  await withLock(join(CACHE, "lock"), { timeoutMs: 600_000 }, async () => {
    if (await exists(ROOT)) return;
    const scratch = await mkdtemp(join(CACHE, "making-"));
    try {
      const root = join(scratch, "root");
      const options = ["--quiet", "--mode=root", "--variant=extract", `--include=${PACKAGES.join(",")}`];
      await run("mmdebstrap", [...options, SUITE, root], { timeoutMs: 600_000 });
      await rename(root, ROOT);
    } finally {
      await removeTree(scratch);
    }
  });
}

/** The command that runs one of these programs; `path` is absolute, as in an installed package. */
export function debianProgram(path: string, ...args: readonly string[]): string[] {
  const loader = join(ROOT, "usr/lib64/ld-linux-x86-64.so.2");
  return [loader, "--library-path", join(ROOT, "usr/lib/x86_64-linux-gnu"), join(ROOT, path), ...args];
}
