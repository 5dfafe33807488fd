/**
 * Fresh installations of the distributions that the package is for, with the lists of their packages: in a namespace without a
 * network apt can still tell what it would install. `prepareFreshRoots` needs one; a second call finds everything.
 */
import { createHash } from "node:crypto";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { exists } from "../../src/host/files.ts";
import { run } from "../../src/host/run.ts";
import { makeOnce } from "./made-once.ts";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const CACHE = join(ROOT, ".cache/fresh-roots");
const MAKE_TIMEOUT_MS = 600_000;
const FETCH_TIMEOUT_MS = 300_000;
const REACH_TIMEOUT_MS = 15_000;

/** Without which the package's own scripts can't work, removal included, nor VMs whose hypervisor is a stand-in. */
const PACKAGES = "passwd,nftables,iproute2,qemu-utils,genisoimage,conntrack";
/** What is made anew when it changes. */
const VERSION = createHash("sha256").update(PACKAGES).digest("hex").slice(0, 8);
const folderOf = (suite: string): string => join(CACHE, `${suite}-${VERSION}`);

/** Ubuntu's archive can't be reached from everywhere. */
const SUITES = [
  { name: "bookworm", mirror: undefined },
  { name: "trixie", mirror: undefined },
  { name: "noble", mirror: "http://archive.ubuntu.com/ubuntu" },
] as const;

/** Also gets the Node that the package brings. */
export async function prepareFreshRoots(): Promise<void> {
  const { stdout: node } = await run(join(ROOT, "scripts/node-path"), ["--packaged"]);
  await run(join(ROOT, "scripts/node-path"), [node.trim()], { timeoutMs: FETCH_TIMEOUT_MS });
  for (const { name, mirror } of SUITES) {
    if ((await exists(folderOf(name))) || !(await isReachable(mirror))) continue;
    await makeOnce(folderOf(name), (root) => makeRoot(root, name, mirror));
  }
}

/** The folders of those that could be made, by the names of their releases. */
export async function freshRoots(): Promise<ReadonlyMap<string, string>> {
  const roots = new Map<string, string>();
  for (const { name } of SUITES) if (await exists(folderOf(name))) roots.set(name, folderOf(name));
  return roots;
}

async function makeRoot(root: string, suite: string, mirror: string | undefined): Promise<void> {
  const options = [
    "--quiet",
    "--mode=root",
    "--variant=apt",
    `--include=${PACKAGES}`,
    "--skip=cleanup/apt/lists",
    "--dpkgopt=force-unsafe-io",
  ];
  await run("mmdebstrap", [...options, suite, root, ...(mirror === undefined ? [] : [mirror])], {
    timeoutMs: MAKE_TIMEOUT_MS,
  });
}

async function isReachable(mirror: string | undefined): Promise<boolean> {
  if (mirror === undefined) return true;
  try {
    return (await fetch(`${mirror}/dists/`, { signal: AbortSignal.timeout(REACH_TIMEOUT_MS) })).ok;
  } catch {
    // Whatever the reason: that distribution can't be had here.
    return false;
  }
}
