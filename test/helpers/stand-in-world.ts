/**
 * A host for the real daemon whose VMs are stand-ins: everything else (records, rules, TAPs, clones, seeds, processes) is
 * the host's own, in the namespaces of the suite. Or else they are real ones, under emulation, of a guest that is up within
 * seconds.
 */
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { mkdir, mkdtemp, readdir, rm, utimes, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type { InstanceStatus } from "../../src/api/status.ts";
import { systemErrorCode } from "../../src/errors.ts";
import { exists, listDirectory } from "../../src/host/files.ts";
import { listProcesses } from "../../src/host/process-list.ts";
import { run } from "../../src/host/run.ts";
import { waitFor } from "../../src/host/wait.ts";
import { parseVmProcess } from "../../src/hypervisor/qemu/arguments.ts";
import { readInstalledRules } from "../../src/network/nft.ts";
import { isTapName, parseVmSubnet, slotNetwork, slotOfAddress } from "../../src/network/slots.ts";
import { poolToml, startTestDaemon, type TestDaemon } from "./daemon.ts";
import { createSshGuest } from "./ssh-guest.ts";
import { createPrograms, type Programs } from "./stand-in-vm.ts";

export const STAND_IN_POOL = "ci";
export const STAND_IN_SUBNET = parseVmSubnet("172.16.0.0/16");
const MIB = 1024 ** 2;
const DISK_MIB = 512;
const SETTLE_MS = 60_000;
const LOCKS = [".images.lock", ".base.lock"];

export interface StandInWorld {
  readonly folder: string;
  readonly stateDirectory: string;
  readonly diskDirectory: string;
  readonly programs: Programs;
  /** Starts a daemon on what the one before it left; its VMs outlive it. */
  start(options?: StartOptions): Promise<TestDaemon>;
  /** Leaves not a byte on the disk of records and clones, until `makeRoom`. */
  fillDisk(): Promise<void>;
  makeRoom(): Promise<void>;
  /** What there is on the host of VMs. */
  inspect(): Promise<Belongings>;
  /** Waits until the host has exactly what these instances need, and asserts that. */
  assertOnly(instances: () => Promise<readonly Pick<InstanceStatus, "id" | "address">[]>): Promise<void>;
  /** Whoever holds an images lock is dead: that only time tells, and less of it passes here. */
  expireLocks(): Promise<void>;
  remove(): Promise<void>;
}

export interface StartOptions {
  /** Keys of the pool. */
  pool?: Readonly<Record<string, unknown>>;
  /** TOML that comes after the pool. */
  more?: string;
  /** Keys of `[daemon]`. */
  settings?: Readonly<Record<string, unknown>>;
  /** Modules of this folder that Node loads before the daemon. */
  preload?: readonly string[];
  env?: Readonly<Record<string, string>>;
  ephemeral?: boolean;
}

/** By kind, sorted: ids of instances, but names for TAPs. */
export interface Belongings {
  processes: string[];
  records: string[];
  clones: string[];
  taps: string[];
  rules: string[];
  /** In the daemon's own temporary folder. */
  scratch: string[];
}

/** @param diskMiB of the disk with records and clones: the daemon wants 64 MiB free for each VM that it begins */
export const createStandInWorld = (diskMiB = DISK_MIB): Promise<StandInWorld> =>
  createWorld("stand-in", diskMiB);
export const createEmulatedWorld = (diskMiB = DISK_MIB): Promise<StandInWorld> =>
  createWorld("QEMU", diskMiB);

async function createWorld(hypervisor: "QEMU" | "stand-in", diskMiB: number): Promise<StandInWorld> {
  const folder = await mkdtemp(join(tmpdir(), "stand-in-world-"));
  const disk = join(folder, "disk");
  const stateDirectory = join(disk, "state");
  const diskDirectory = join(disk, "disks");
  const ballast = join(disk, "ballast");
  const scratch = join(folder, "tmp");
  await mkdir(disk);
  await run("mount", ["-t", "tmpfs", "-o", `size=${diskMiB}m,mode=700`, "stand-in-world", disk]);
  for (const directory of [scratch, diskDirectory]) await mkdir(directory);
  const programs = await createPrograms(folder, hypervisor);
  const image = hypervisor === "QEMU" ? await createSshGuest(folder) : await makeImage(folder);
  const inspect = async (): Promise<Belongings> => {
    const processes = (await listProcesses()).flatMap(({ arguments: words }) => {
      const vm = parseVmProcess(words);
      return vm?.directory.startsWith(`${stateDirectory}/`) ? [vm.id] : [];
    });
    const rules = new Set((await readInstalledRules())?.elements.map(({ key }) => key[0] ?? "") ?? []);
    return {
      processes: processes.sort(),
      records: (await listDirectory(join(stateDirectory, "vms"))).sort(),
      // Their names end with a word for the state directory.
      clones: (await listDirectory(join(diskDirectory, "clones")))
        .map((name) => name.replace(/\..*/, ""))
        .sort(),
      taps: (await readdir("/proc/sys/net/ipv4/conf")).filter(isTapName).sort(),
      rules: [...rules].sort(),
      scratch: await readdir(scratch),
    };
  };
  return {
    folder,
    stateDirectory,
    diskDirectory,
    programs,
    inspect,
    async fillDisk() {
      await mkdir(ballast);
      for (const size of [MIB, 64 * 1024, 4096]) while (await hasRoomFor(join(ballast, randomUUID()), size));
    },
    makeRoom: () => rm(ballast, { recursive: true, force: true }),
    start: ({ pool, more = "", settings, preload = [], env, ephemeral = false } = {}) =>
      startTestDaemon({
        directory: folder,
        keepVms: !ephemeral,
        keepDirectory: true,
        image,
        pools: `${poolToml(STAND_IN_POOL, {
          vm_disk_directory: diskDirectory,
          vm_disk_size_gb: 1,
          vm_memory_mb: 128,
          vm_subnet: STAND_IN_SUBNET.cidr,
          boot_timeout: "60s",
          // A stand-in has no memory to go on with.
          clone_mode: "boot",
          ...pool,
        })}${more}`,
        settings: {
          state_directory: stateDirectory,
          max_concurrent_creates: 4,
          memory_overcommit_percent: 1000,
          max_vcpus_per_core: 256,
          disk_reserve_gb: 0,
          ...settings,
        },
        env: {
          PATH: programs.path,
          TMPDIR: scratch,
          NODE_OPTIONS: preload.map(preloadOption).join(" "),
          ...env,
        },
      }),
    async assertOnly(instances) {
      let difference: unknown;
      const same = async (): Promise<true | undefined> => {
        try {
          assert.deepEqual(await inspect(), belongingsOf(await instances()));
          return true;
        } catch (error) {
          if (!(error instanceof assert.AssertionError)) throw error;
          difference = error;
          return undefined;
        }
      };
      const options = { timeoutMs: SETTLE_MS, intervalMs: 20, what: "the host to have only what is needed" };
      await waitFor(same, options).catch((error: unknown) => {
        throw difference ?? error;
      });
    },
    async expireLocks() {
      for (const path of LOCKS.map((name) => join(diskDirectory, name)))
        if (await exists(path)) await utimes(path, 0, 0);
    },
    async remove() {
      await run("umount", [disk]);
      await rm(folder, { recursive: true });
    },
  };
}

function belongingsOf(instances: readonly Pick<InstanceStatus, "id" | "address">[]): Belongings {
  const ids = instances.map(({ id }) => id).sort();
  const taps = instances
    .map(
      ({ address }) =>
        slotNetwork(STAND_IN_SUBNET, slotOfAddress(STAND_IN_SUBNET, address ?? "") ?? 0).tapName,
    )
    .sort();
  return { processes: ids, records: ids, clones: ids, taps, rules: taps, scratch: [] };
}

function preloadOption(name: string): string {
  return `--import=${fileURLToPath(new URL(name, import.meta.url))}`;
}

/** Writes the file if there is room for it. */
async function hasRoomFor(path: string, size: number): Promise<boolean> {
  try {
    await writeFile(path, Buffer.alloc(size));
    return true;
  } catch (error) {
    if (systemErrorCode(error) !== "ENOSPC") throw error;
    await rm(path, { force: true });
    return false;
  }
}

/** A disk and a kernel that no stand-in looks into. */
export async function makeImage(folder: string): Promise<Readonly<Record<string, unknown>>> {
  const [disk, kernel] = [join(folder, "disk.raw"), join(folder, "vmlinuz")];
  await writeFile(disk, Buffer.alloc(MIB, "disk"));
  await writeFile(kernel, "a kernel");
  return { type: "files", disk, kernel };
}
