/**
 * How many more VMs this host can bear. Asked before any VM is made, so that a pool wants less instead of driving the
 * host into its OOM killer.
 */
import { statfs } from "node:fs/promises";
import { availableParallelism } from "node:os";
import { readMemoryLoad } from "../../host/host-load.ts";
import type { Room } from "../source.ts";

export interface AdmissionLimits {
  memoryOvercommitPercent: number;
  memoryReserveMiB: number;
  vcpusPerCore: number;
  diskReserveGiB: number;
  memoryPressureLimitPercent: number;
}

/** What one VM takes. */
export interface Demand {
  memoryMiB: number;
  vcpus: number;
}

export interface HostLoad {
  totalMiB: number;
  availableMiB: number;
  cores: number;
  diskFreeMiB: number;
  freeInodes: number;
  /** Undefined where the kernel does not tell. */
  memoryPressurePercent: number | undefined;
}

/** A clone begins as nearly nothing; this much its first minutes may write. */
const CLONE_MIB = 64;
const CLONE_INODES = 16;
const MIB = 1024 ** 2;

/** The pure part: how many VMs of this kind have room besides what was promised already. */
export function roomFor(demand: Demand, promised: Demand, load: HostLoad, limits: AdmissionLimits): Room {
  const { memoryPressureLimitPercent: pressureLimit, vcpusPerCore, diskReserveGiB } = limits;
  const pressure = load.memoryPressurePercent ?? 0;
  if (pressureLimit > 0 && pressure > pressureLimit) {
    return {
      vms: 0,
      isScarce: true,
      limit: "memory_pressure",
      reason: `the host is short of memory: ${pressure.toFixed(0)} % of the time something waits for it (memory_pressure_limit_percent = ${pressureLimit})`,
    };
  }
  const memoryMiB =
    Math.floor((load.totalMiB * limits.memoryOvercommitPercent) / 100) - limits.memoryReserveMiB;
  const rooms: Room[] = [
    {
      vms: (memoryMiB - promised.memoryMiB) / demand.memoryMiB,
      limit: "memory",
      reason: `VMs may have ${memoryMiB} MiB of the host's memory in all, and have ${promised.memoryMiB} (memory_overcommit_percent, memory_reserve_mb)`,
    },
    {
      // Memory that VMs have and do not use yet counts as available, so this says only whether one more may begin.
      vms: load.availableMiB >= limits.memoryReserveMiB ? Number.POSITIVE_INFINITY : 0,
      limit: "memory_available",
      isScarce: true,
      reason: `the host has only ${load.availableMiB} MiB of memory available (memory_reserve_mb = ${limits.memoryReserveMiB})`,
    },
    {
      vms: (load.cores * vcpusPerCore - promised.vcpus) / demand.vcpus,
      limit: "vcpus",
      reason: `VMs may have ${load.cores * vcpusPerCore} virtual CPU cores in all, and have ${promised.vcpus} (max_vcpus_per_core = ${vcpusPerCore})`,
    },
    {
      vms: (load.diskFreeMiB - diskReserveGiB * 1024) / CLONE_MIB,
      limit: "disk",
      isScarce: true,
      reason: `the disk directory has only ${load.diskFreeMiB} MiB free (disk_reserve_gb = ${diskReserveGiB})`,
    },
    {
      vms: load.freeInodes / CLONE_INODES,
      limit: "inodes",
      isScarce: true,
      reason: `the disk directory's file system has only ${load.freeInodes} inodes free`,
    },
  ];
  const tightest = rooms.reduce((least, room) => (room.vms < least.vms ? room : least));
  const isScarce = rooms.some((room) => room.isScarce === true && room.vms < 1);
  return { ...tightest, vms: Math.max(0, Math.floor(tightest.vms)), isScarce };
}

/** What VMs of this host were promised, whichever pool they are of. */
export class Admission {
  readonly #limits: AdmissionLimits;
  readonly #promised = new Map<string, Demand>();

  constructor(limits: AdmissionLimits) {
    this.#limits = limits;
  }

  promise(id: string, demand: Demand): void {
    this.#promised.set(id, demand);
  }

  release(id: string): void {
    this.#promised.delete(id);
  }

  async room(demand: Demand, diskDirectory: string): Promise<Room> {
    const promised = { memoryMiB: 0, vcpus: 0 };
    const load = await readLoad(diskDirectory);
    for (const { memoryMiB, vcpus } of this.#promised.values()) {
      promised.memoryMiB += memoryMiB;
      promised.vcpus += vcpus;
    }
    return roomFor(demand, promised, load, this.#limits);
  }
}

async function readLoad(diskDirectory: string): Promise<HostLoad> {
  const memory = readMemoryLoad();
  const disk = await statfs(diskDirectory);
  return {
    totalMiB: Math.floor(memory.totalBytes / MIB),
    availableMiB: Math.floor(memory.availableBytes / MIB),
    cores: availableParallelism(),
    diskFreeMiB: Math.floor((disk.bavail * disk.bsize) / MIB),
    // File systems without a table of inodes say 0 of 0.
    freeInodes: disk.files === 0 ? Number.POSITIVE_INFINITY : disk.ffree,
    memoryPressurePercent: memory.pressurePercent,
  };
}
