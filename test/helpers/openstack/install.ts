/** The services' code: a Python environment in `.cache`, made of `requirements.txt` once, where there is a network. */
import { createHash } from "node:crypto";
import { readFile, rename, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { exists, removeTree } from "../../../src/host/files.ts";
import { withLock } from "../../../src/host/lock.ts";
import { run } from "../../../src/host/run.ts";

const CACHE = fileURLToPath(new URL("../../../.cache/openstack", import.meta.url));
const REQUIREMENTS = fileURLToPath(new URL("requirements.txt", import.meta.url));
const INSTALLER = fileURLToPath(new URL("uv.txt", import.meta.url));
/** The distribution's: OpenStack 2025.1 runs on 3.9 to 3.12. */
const PYTHON = "/usr/bin/python3";
const LONGEST_INSTALL_MS = 600_000;

export interface Installation {
  readonly python: string;
  readonly venv: string;
  /** What is kept from one run to the next, and belongs to these versions. */
  readonly cache: string;
}

/** Where it is, or would be: by the versions that it is made of. */
export async function installation(): Promise<Installation> {
  const text = await readFile(REQUIREMENTS);
  const version = createHash("sha256").update(text).digest("hex").slice(0, 12);
  const cache = join(CACHE, version);
  const venv = join(cache, "venv");
  return { cache, venv, python: join(venv, "bin/python") };
}

export async function installOpenStack(): Promise<Installation> {
  const target = await installation();
  const done = join(target.cache, "installed");
  await withLock(join(CACHE, "lock"), { timeoutMs: LONGEST_INSTALL_MS }, async () => {
    if (await exists(done)) return;
    const { venv, python } = target;
    const step = (file: string, ...args: string[]) => run(file, args, { timeoutMs: LONGEST_INSTALL_MS });
    await removeTree(venv);
    await step(PYTHON, "-m", "venv", venv);
    await step(python, "-m", "pip", "install", "--quiet", "--require-hashes", "-r", INSTALLER);
    // Several times as fast as pip; and what it compiles now isn't compiled by each test.
    const options = ["--quiet", "--require-hashes", "--compile-bytecode", "--python", python];
    await step(join(venv, "bin/uv"), "pip", "install", ...options, "-r", REQUIREMENTS);
    await writeFile(`${done}.new`, "");
    await rename(`${done}.new`, done);
  });
  return target;
}
