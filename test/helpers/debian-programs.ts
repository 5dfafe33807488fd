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
const PACKAGES = ["apt-cacher-ng", "docker-registry", "iptables"];
const VERSION = createHash("sha256")
  .update(JSON.stringify([SUITE, PACKAGES]))
  .digest("hex");
const ROOT = join(CACHE, VERSION.slice(0, 12));
const LOADER = join(ROOT, "usr/lib64/ld-linux-x86-64.so.2");
const LIBRARIES = join(ROOT, "usr/lib/x86_64-linux-gnu");

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
  return [LOADER, "--library-path", LIBRARIES, join(ROOT, path), ...args];
}

/** Runs `iptables` (or `iptables-save`, …) as Debian has it: its rules are nftables' own, beside ours. */
export async function iptables(program: string, args: readonly string[], input = ""): Promise<string> {
  const own = ["--library-path", LIBRARIES, "--argv0", program, join(ROOT, "usr/sbin/xtables-nft-multi")];
  const env = { XTABLES_LIBDIR: join(LIBRARIES, "xtables") };
  return (await run(LOADER, [...own, ...args], { input, env })).stdout;
}
