/** The VM that Cloud Hypervisor is asked to make: a pure function of the spec and of what this version can do. */
import { join } from "node:path";
import type { DiskSpec, NicSpec, VmSpec } from "../driver.ts";
import type { Capabilities } from "./capabilities.ts";
import { CHANNEL_CID, CHANNEL_DEVICE, CHANNEL_SOCKET } from "./channel-address.ts";

/** The part of the API's VmConfig that is used here, in its own words. */
export interface VmConfig {
  cpus: { boot_vcpus: number; max_vcpus: number; nested?: boolean };
  memory: { size: number; zones?: { id: string; size: number; file: string; shared: boolean }[] };
  payload: { kernel: string; initramfs?: string; cmdline: string };
  disks?: DiskConfig[];
  net?: NetConfig[];
  rng: { src: string };
  balloon?: { size: number; deflate_on_oom: boolean; free_page_reporting: boolean };
  serial: { mode: "Tty" | "Off" };
  console: { mode: "Tty" | "Off" };
  vsock?: { id: string; cid: number; socket: string };
  pvpanic: boolean;
  landlock_enable?: boolean;
  landlock_rules?: { path: string; access: "r" | "rw" }[];
}

export interface DiskConfig {
  path: string;
  readonly: boolean;
  serial: string;
  image_type?: "Raw" | "Qcow2";
  backing_files?: boolean;
}

export interface NetConfig {
  id: string;
  tap: string;
  mac: string;
  num_queues: number;
}

const MIB = 1024 ** 2;
const SERIAL_CONSOLE = process.arch === "arm64" ? "ttyAMA0" : "ttyS0";

/** Backing files of qcow2 disks are to be opened, too, and only whoever made the disks knows where they are. */
export function vmConfig(spec: VmSpec, can: Capabilities, backingFiles: readonly string[] = []): VmConfig {
  const device = spec.console === "virtio" ? "hvc0" : SERIAL_CONSOLE;
  // Its standard output is the console's log, which it appends to; a file of its own it would empty at each reboot.
  const [serial, console] =
    spec.console === "serial" ? ["Tty" as const, "Off" as const] : ["Off" as const, "Tty" as const];
  return {
    // Jobs get no nested virtualization: it only adds to what a guest can attack.
    cpus: { boot_vcpus: spec.vcpus, max_vcpus: spec.vcpus, ...(can.nested ? { nested: false } : {}) },
    memory: memoryConfig(spec),
    payload: {
      kernel: spec.kernelPath,
      ...(spec.initrdPath === undefined ? {} : { initramfs: spec.initrdPath }),
      // The caller's arguments come last: they win.
      cmdline: [`console=${device}`, "panic=5", ...spec.kernelArguments].join(" "),
    },
    disks: spec.disks.map((disk) => diskConfig(disk, can)),
    net: spec.nics.map(netConfig),
    rng: { src: "/dev/urandom" },
    ...(spec.hasChannel
      ? { vsock: { id: CHANNEL_DEVICE, cid: CHANNEL_CID, socket: join(spec.directory, CHANNEL_SOCKET) } }
      : {}),
    ...balloonConfig(spec),
    serial: { mode: serial },
    console: { mode: console },
    pvpanic: true,
    ...(isSandboxed(spec, can)
      ? { landlock_enable: true, landlock_rules: landlockRules(spec, backingFiles) }
      : {}),
  };
}

/** A template's memory is a file that its clones map, too. */
function memoryConfig({ memoryMiB, memoryPath }: VmSpec): VmConfig["memory"] {
  const size = memoryMiB * MIB;
  if (memoryPath === undefined) return { size };
  return { size: 0, zones: [{ id: "memory", size, file: memoryPath, shared: true }] };
}

/**
 * Memory that the guest does not use goes back to the host; the guest takes it again when it runs short. Not where the
 * memory is a template's file: the holes would be punched into the file itself, and so into all other clones.
 */
function balloonConfig({ hasChannel }: VmSpec): Pick<VmConfig, "balloon"> {
  return hasChannel ? {} : { balloon: { size: 0, deflate_on_oom: true, free_page_reporting: true } };
}

function netConfig(nic: NicSpec, index: number): NetConfig {
  return { id: `net${index}`, tap: nic.tapName, mac: nic.macAddress, num_queues: 2 };
}

function diskConfig(disk: DiskSpec, can: Capabilities): DiskConfig {
  const config: DiskConfig = { path: disk.path, readonly: disk.readOnly, serial: disk.serial };
  if (!can.imageTypes) return config;
  if (disk.format === "raw") return { ...config, image_type: "Raw" };
  return { ...config, image_type: "Qcow2", backing_files: true };
}

/** Not a template, in which no job runs: it could not write its state at the end, to a folder that only `saveState` names. */
function isSandboxed({ memoryPath }: VmSpec, can: Capabilities): boolean {
  return can.landlock && memoryPath === undefined;
}

/** What it does not allow itself: it does so with all that the configuration names, and with /dev/net/tun. */
function landlockRules(
  { nics }: VmSpec,
  backingFiles: readonly string[],
): NonNullable<VmConfig["landlock_rules"]> {
  return [
    ...backingFiles.map((path) => ({ path, access: "r" as const })),
    // It looks there for what kind of device it is.
    ...nics.map(({ tapName }) => ({ path: `/sys/class/net/${tapName}`, access: "r" as const })),
  ];
}
