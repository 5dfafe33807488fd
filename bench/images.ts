/** The benchmarks' own disk directory: the base image is the tests', golden images and clones are not. */
import { createReadStream } from "node:fs";
import { mkdir, symlink } from "node:fs/promises";
import { join } from "node:path";
import { finished } from "node:stream/promises";
import { fetchBaseImage } from "../src/daemon/base-images.ts";
import { FleetingdError, systemErrorCode } from "../src/errors.ts";
import { findGolden } from "../src/images/golden.ts";
import type { BaseImage, GoldenImage } from "../src/images/image.ts";
import { silentLogger } from "../src/log.ts";
import { IMAGES, poolToml, startTestDaemon, type TestDaemon } from "../test/helpers/daemon.ts";

/** Kept from one run to the next, like the tests' images, and on the same file system. */
export const BENCH_IMAGES = join(IMAGES, "bench");
export const POOL = "bench";
export const DISK_SIZE_GIB = 4;
export const MEMORY_MIB = 512;

const FETCH_TIMEOUT_MS = 30 * 60_000;

export async function openBenchImages(): Promise<void> {
  await mkdir(BENCH_IMAGES, { recursive: true, mode: 0o700 });
  await mkdir(join(IMAGES, "base"), { recursive: true, mode: 0o700 });
  try {
    await symlink("../base", join(BENCH_IMAGES, "base"));
  } catch (error) {
    if (systemErrorCode(error) !== "EEXIST") throw error;
  }
}

/** A real daemon with one pool of small VMs. */
export function startBenchDaemon(
  pool: Readonly<Record<string, unknown>> = {},
  settings: Readonly<Record<string, unknown>> = {},
): Promise<TestDaemon> {
  const size = { vm_disk_size_gb: DISK_SIZE_GIB, vm_memory_mb: MEMORY_MIB, vm_num_cpu_cores: 1 };
  const pools = poolToml(POOL, { vm_disk_directory: BENCH_IMAGES, ...size, ...pool });
  return startTestDaemon({ pools, settings });
}

/** The pool's golden image, made if there is none yet, and read once so that its disk's speed does not count. */
export async function ensureGolden(daemon: TestDaemon): Promise<GoldenImage> {
  const name = await daemon.prebuild(POOL);
  const golden = await findGolden(BENCH_IMAGES, name);
  if (golden === undefined) throw new FleetingdError("NOT_FOUND", `there is no golden image ${name}`);
  await readIntoCache([golden.diskPath, golden.kernelPath]);
  return golden;
}

/** The base image that golden images are made of, read once. */
export async function ensureBase(): Promise<BaseImage> {
  const base = await fetchBaseImage(
    { type: "debian-packages", suite: undefined, mirrors: undefined, packages: [] },
    {
      diskDirectory: BENCH_IMAGES,
      signal: AbortSignal.timeout(FETCH_TIMEOUT_MS),
      onProgress: () => undefined,
      logger: silentLogger,
    },
  );
  await readIntoCache([base.diskPath, base.kernelPath]);
  return base;
}

async function readIntoCache(paths: readonly string[]): Promise<void> {
  for (const path of paths) await finished(createReadStream(path, { highWaterMark: 1024 ** 2 }).resume());
}
