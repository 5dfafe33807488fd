/** Whether the host can have the pools of the configuration: memory, disks, images. */
import { randomUUID } from "node:crypto";
import { open, rm, stat, statfs } from "node:fs/promises";
import { join } from "node:path";
import type { Config, PoolConfig } from "../config/types.ts";
import { poolProblems, usesHost } from "../daemon/host-checks.ts";
import { describeError } from "../errors.ts";
import { ensureDirectory, exists } from "../host/files.ts";
import { readMemoryLoad } from "../host/host-load.ts";
import { run } from "../host/run.ts";
import { readInventory } from "../images/inventory.ts";
import { type Check, type Finding, fail, failure, ok, warn } from "./finding.ts";

const MIB = 1024 ** 2;
const GIB = 1024 ** 3;
/** What an image and its making take besides the reserve. */
const IMAGE_GIB = 10;
const LEAST_INODES = 50_000;
const PROBE_BYTES = 8 * MIB;
const DAY_MS = 86_400_000;
const OLD_DAYS = 30;
const COPY_TIMEOUT_MS = 10_000;

export function poolChecks(config: Config): Check[] {
  const pools = Object.entries(config.pools).filter(([, pool]) => usesHost(pool));
  const directories = [...new Set(pools.map(([, { diskDirectory }]) => diskDirectory))];
  return [
    { area: "pools", look: () => lookAtPools(config) },
    ...(pools.length === 0 ? [] : [{ area: "memory", look: () => memory(config) }]),
    ...directories.map((directory) => ({ area: "disk", look: () => disk(directory, config) })),
    ...pools.map(([name, pool]) => ({ area: "image", look: () => image(name, pool) })),
  ];
}

async function lookAtPools({ pools }: Config): Promise<Finding[]> {
  const named = Object.entries(pools);
  if (named.length === 0) {
    return [
      warn(
        "the configuration has no pool, so only runners that describe one in their plugin_config get VMs",
        "Add [pools.default] to it.",
      ),
    ];
  }
  const problems = await poolProblems(named, []);
  if (problems.length === 0)
    return [ok(`the host can have the pools ${named.map(([name]) => name).join(", ")}`)];
  return problems.map((problem) => failure(problem, "Change the pool's settings."));
}

/** All VMs that there may be, together. */
async function memory({ pools, daemon }: Config): Promise<Finding[]> {
  const { totalBytes, availableBytes } = await readMemoryLoad();
  const { memoryOvercommitPercent, memoryReserveMiB } = daemon.admission;
  const forVmsMiB = Math.floor((totalBytes / MIB) * (memoryOvercommitPercent / 100)) - memoryReserveMiB;
  const sum = (count: (pool: PoolConfig) => number): number =>
    Object.values(pools)
      .filter(usesHost)
      .reduce((total, pool) => total + count(pool) * pool.memoryMiB, 0);
  const wanted = sum(({ maxInstances }) => maxInstances);
  const warm = sum(({ warmInstances }) => warmInstances);
  const limits = `VMs may have ${forVmsMiB} MiB (memory_overcommit_percent, memory_reserve_mb)`;
  const remedy = "Lower max_instances or vm_memory_mb, or raise memory_overcommit_percent.";
  if (warm > forVmsMiB) return [fail(`the warm VMs alone take ${warm} MiB of memory, and ${limits}`, remedy)];
  const findings =
    wanted > forVmsMiB
      ? [warn(`all VMs that the pools may have take ${wanted} MiB of memory, and ${limits}`, remedy)]
      : [ok(`all VMs that the pools may have take ${wanted} MiB of memory, and ${limits}`)];
  if (availableBytes / MIB < memoryReserveMiB)
    findings.push(
      fail(
        `the host has only ${Math.floor(availableBytes / MIB)} MiB of memory available`,
        "End what takes it.",
      ),
    );
  return findings;
}

async function disk(directory: string, { daemon }: Config): Promise<Finding[]> {
  if (!(await exists(directory))) {
    return [
      {
        ...warn(
          `the disk directory ${directory} is not there yet`,
          `Run \`mkdir -p ${directory}\`; the daemon makes it, too.`,
        ),
        fix: { what: `make the directory ${directory}`, run: () => ensureDirectory(directory, 0o711) },
      },
    ];
  }
  const stats = await statfs(directory);
  const freeGiB = (stats.bavail * stats.bsize) / GIB;
  const reserveGiB = daemon.admission.diskReserveGiB;
  const free = `${directory} has ${freeGiB.toFixed(1)} GiB free`;
  const findings: Finding[] = [];
  if (freeGiB < reserveGiB)
    findings.push(
      fail(
        `${free}, and disk_reserve_gb = ${reserveGiB}: no VM is started`,
        "Run `fleetingd gc`, or add space.",
      ),
    );
  else if (freeGiB < reserveGiB + IMAGE_GIB)
    findings.push(warn(`${free}, which is little for a new image`, "Run `fleetingd gc`, or add space."));
  else findings.push(ok(free));
  // File systems without a table of inodes say 0 of 0.
  if (stats.files > 0 && stats.ffree < LEAST_INODES)
    findings.push(
      warn(
        `${directory} has only ${stats.ffree} inodes free`,
        "Remove small files from it, or make the file system anew with more inodes.",
      ),
    );
  return [...findings, ...(await copies(directory))];
}

/** How clones are made there: tried, not read from a list of file systems. */
async function copies(directory: string): Promise<Finding[]> {
  const [source, target] = [
    join(directory, `.doctor-${randomUUID()}`),
    join(directory, `.doctor-${randomUUID()}`),
  ];
  try {
    const file = await open(source, "wx", 0o600);
    await file.truncate(PROBE_BYTES);
    await file.close();
    const { blocks } = await stat(source);
    const isSparse = blocks * 512 < PROBE_BYTES;
    const { exitCode } = await run("cp", ["--reflink=always", source, target], {
      timeoutMs: COPY_TIMEOUT_MS,
      acceptedExitCodes: [0, 1],
    });
    const findings = [
      exitCode === 0
        ? ok(`clones in ${directory} are reflinks`)
        : ok(
            `clones in ${directory} are overlays (qcow2), for its file system has no reflinks; XFS and Btrfs have`,
          ),
    ];
    if (!isSparse)
      findings.push(
        warn(
          `${directory} has no sparse files, so every image takes all of its size`,
          "Use XFS, Btrfs or ext4 there.",
        ),
      );
    return findings;
  } catch (error) {
    return [
      fail(
        `nothing can be written to ${directory}: ${describeError(error)}`,
        "Run this as root, and see that it is not mounted read-only.",
      ),
    ];
  } finally {
    for (const path of [source, target]) await rm(path, { force: true });
  }
}

async function image(name: string, { diskDirectory, prebuildIntervalMs }: PoolConfig): Promise<Finding[]> {
  const { golden } = await readInventory(diskDirectory);
  const newest = Math.max(...golden.map(({ createdAt }) => createdAt.getTime()));
  if (golden.length === 0) {
    return [
      warn(
        `pool ${name}: there is no golden image in ${diskDirectory} yet, so the first VM waits for one`,
        `Run \`fleetingd prebuild ${name}\`.`,
      ),
    ];
  }
  const days = (Date.now() - newest) / DAY_MS;
  const age = `pool ${name}: the newest golden image in ${diskDirectory} is ${Math.floor(days)} days old`;
  const limitDays =
    prebuildIntervalMs === 0 ? OLD_DAYS : Math.max(OLD_DAYS, (2 * prebuildIntervalMs) / DAY_MS);
  if (days <= limitDays) return [ok(age)];
  return [
    warn(
      `${age}, and lacks the updates since`,
      `Run \`fleetingd prebuild --force ${name}\`, or set prebuild_interval.`,
    ),
  ];
}
