/** QEMU's command line: a pure function of the VM and of what the host offers. */
import { join } from "node:path";
import { CONSOLE_LOG, type DiskSpec, type NicSpec, type Snapshot, type VmSpec } from "../driver.ts";
import { isAtLeast, type Platform } from "./platform.ts";

export interface QemuSettings {
  platform: Platform;
  machine: string;
  /** `7.2.22` */
  version: string;
  accelerator: "kvm" | "tcg";
  /** The host's kernel moves the packets; only with KVM and where /dev/vhost-net may be used. */
  vhostNet: boolean;
  /** From QEMU 8.2 on: a file can be opened to be read only and still be memory that the guest writes to, privately. */
  readOnlyMemoryFile: boolean;
}

/** What a clone maps of its snapshot. */
export type Cloned = Pick<Snapshot, "memoryPath" | "kernelPath">;

/** In the VM's directory, as the monitor's: the host's end of the channel. */
export const CHANNEL_SOCKET = "channel.sock";
/** The channel's port as a device, by which it can be unplugged. */
export const CHANNEL_DEVICE = "channel-port";
/** The channel's character device, by which QEMU stops listening for it. */
export const CHANNEL_BACKEND = "channel";
/** What the guest part looks for in /sys/class/virtio-ports. */
const CHANNEL_NAME = "fleetingd";

/** QMP's socket in the VM's directory, which is QEMU's working directory: so the path is short wherever that is. */
export const QMP_SOCKET = "qmp.sock";

const PROCESS_NAME = "fleeting-vm";
// Translated code is cached here; a larger cache costs memory and gains nothing for short jobs.
const TCG_CACHE_MIB = 64;
// A clone never runs the boot's code, and is to cost a small part of what a booted VM does: of a small one's cache it gets less.
const CLONED_TCG_CACHE = { minMiB: 32, memoryShare: 1 / 16 };
const CONSOLE_FILE_START = "file,id=console,append=on,path=";

/** QEMU's arguments for this VM, which boots, or waits for the state of a template whose memory it has. */
export function qemuArguments(spec: VmSpec, settings: QemuSettings, cloned?: Cloned): string[] {
  const { platform } = settings;
  const memory = memoryArguments(spec, settings, cloned);
  return [
    ...["-name", nameOption(spec.id)],
    ...["-nodefaults", "-no-user-config"],
    ...["-display", "none"],
    ...["-machine", `${settings.machine},${platform.machineOptions}${memory.machineOption}`],
    ...memory.arguments,
    ...acceleratorArguments(settings, spec, cloned !== undefined),
    ...["-m", `${spec.memoryMiB}M`],
    ...["-smp", `cpus=${spec.vcpus},sockets=1,cores=${spec.vcpus},threads=1`],
    ...kernelArguments(spec, platform, cloned?.kernelPath),
    ...consoleArguments(spec),
    ...spec.disks.flatMap(diskArguments),
    ...spec.nics.flatMap((nic, index) => nicArguments(nic, index, settings.vhostNet)),
    ...balloonArguments(spec),
    ...["-object", "rng-random,id=random,filename=/dev/urandom"],
    ...["-device", "virtio-rng-pci,rng=random"],
    // A guest with the driver tells of its panic, which ends the VM; `panic=` restarts all others.
    ...["-device", "pvpanic-pci"],
    ...["-action", "panic=shutdown"],
    ...["-qmp", `unix:${QMP_SOCKET},server=on,wait=off`],
    ...confinementArguments(spec, settings.version),
    ...(cloned === undefined ? [] : ["-S", "-incoming", "defer"]),
  ];
}

/** Whether QEMU gives up root's uid. A template has to write its state at the end, and no job runs in it. */
export function becomesUser({ user, memoryPath }: VmSpec): boolean {
  return user !== undefined && memoryPath === undefined;
}

/**
 * When all is open and before the guest runs, QEMU moves into the VM's directory, which becomes all that it sees, and becomes a user
 * who may open nothing there. Its seccomp filter has to let it do so; afterwards no right is left to use that.
 */
function confinementArguments(spec: VmSpec, version: string): string[] {
  const sandbox = "on,obsolete=deny,spawn=deny,resourcecontrol=deny";
  if (!becomesUser(spec)) return ["-sandbox", `${sandbox},elevateprivileges=deny`];
  const identity = `${spec.user}:${spec.user}`;
  if (isAtLeast(version, [9, 1])) return ["-sandbox", sandbox, "-run-with", `chroot=.,user=${identity}`];
  const chroot = isAtLeast(version, [8, 1]) ? ["-run-with", "chroot=."] : ["-chroot", "."];
  return ["-sandbox", sandbox, ...chroot, "-runas", identity];
}

/** The VM that a process with these arguments is, or undefined if it is none of ours. */
export function parseVmProcess(
  argumentVector: readonly string[],
): { id: string; directory: string } | undefined {
  const name = argumentVector[argumentVector.indexOf("-name") + 1] ?? "";
  const id = new RegExp(`^guest=(.+),process=${PROCESS_NAME},`).exec(name)?.[1];
  const file = argumentVector.find((argument) => argument.startsWith(CONSOLE_FILE_START));
  const path = file?.slice(CONSOLE_FILE_START.length).replaceAll(",,", ",");
  if (id === undefined || path === undefined || !path.endsWith(`/${CONSOLE_LOG}`)) return undefined;
  return { id, directory: path.slice(0, -CONSOLE_LOG.length - 1) };
}

/** A comma separates QEMU's options; one that belongs to the value is doubled. */
export function escapeCommas(value: string): string {
  return value.replaceAll(",", ",,");
}

function nameOption(id: string): string {
  return `guest=${escapeCommas(id)},process=${PROCESS_NAME},debug-threads=on`;
}

function consoleFileOption(directory: string): string {
  return `${CONSOLE_FILE_START}${escapeCommas(join(directory, CONSOLE_LOG))}`;
}

function acceleratorArguments(settings: QemuSettings, spec: VmSpec, isClone: boolean): string[] {
  if (settings.accelerator === "kvm") return ["-accel", "kvm", "-cpu", settings.platform.kvmCpu];
  const cacheMiB = isClone ? clonedCacheMiB(spec.memoryMiB) : TCG_CACHE_MIB;
  const threads = spec.vcpus > 1 ? ",thread=multi" : "";
  return ["-accel", `tcg,tb-size=${cacheMiB}${threads}`, "-cpu", settings.platform.tcgCpu];
}

function clonedCacheMiB(memoryMiB: number): number {
  const { minMiB, memoryShare } = CLONED_TCG_CACHE;
  return Math.min(TCG_CACHE_MIB, Math.max(minMiB, Math.floor(memoryMiB * memoryShare)));
}

/** @param mapped the kernel as a file that QEMU maps: any other it reads into memory of its own, and keeps it for a reboot */
function kernelArguments(spec: VmSpec, platform: Platform, mapped = spec.kernelPath): string[] {
  const device = spec.console === "virtio" ? "hvc0" : platform.serialConsole;
  // The caller's arguments come last: they win.
  const commandLine = [`console=${device}`, "panic=5", ...spec.kernelArguments].join(" ");
  return [
    ...["-kernel", mapped],
    ...(spec.initrdPath === undefined ? [] : ["-initrd", spec.initrdPath]),
    ...["-append", commandLine],
  ];
}

function memoryArguments(
  spec: VmSpec,
  settings: QemuSettings,
  cloned: Cloned | undefined,
): { machineOption: string; arguments: string[] } {
  const path = cloned?.memoryPath ?? spec.memoryPath;
  if (path === undefined) return { machineOption: "", arguments: [] };
  const readOnly = settings.readOnlyMemoryFile ? ",readonly=on,rom=off" : "";
  const sharing = cloned === undefined ? "share=on" : `share=off${readOnly}`;
  const backend = `memory-backend-file,id=ram,size=${spec.memoryMiB}M,mem-path=${escapeCommas(path)},${sharing}`;
  return { machineOption: ",memory-backend=ram", arguments: ["-object", backend] };
}

/**
 * Memory that the guest does not use goes back to the host; the guest takes it again when it runs short. Not where the
 * memory is a template's file: QEMU would punch the holes into the file itself, and so into all other clones.
 */
function balloonArguments(spec: VmSpec): string[] {
  if (spec.hasChannel) return [];
  return ["-device", "virtio-balloon-pci,free-page-reporting=on,deflate-on-oom=on"];
}

function consoleArguments(spec: VmSpec): string[] {
  const file = ["-chardev", consoleFileOption(spec.directory)];
  const isVirtio = spec.console === "virtio";
  return [
    ...file,
    ...(isVirtio ? [] : ["-serial", "chardev:console"]),
    ...(isVirtio || spec.hasChannel ? ["-device", "virtio-serial-pci"] : []),
    ...(isVirtio ? ["-device", "virtconsole,chardev=console"] : []),
    ...(spec.hasChannel ? channelArguments() : []),
  ];
}

function channelArguments(): string[] {
  return [
    ...["-chardev", `socket,id=${CHANNEL_BACKEND},path=${CHANNEL_SOCKET},server=on,wait=off`],
    ...["-device", `virtserialport,id=${CHANNEL_DEVICE},chardev=${CHANNEL_BACKEND},name=${CHANNEL_NAME}`],
  ];
}

function diskArguments(disk: DiskSpec, index: number): string[] {
  const node = `disk${index}`;
  // The format is always said: a guest could write a header to a raw disk that makes it look like another one.
  const blockdev = {
    driver: disk.format,
    "node-name": node,
    "read-only": disk.readOnly,
    ...(disk.readOnly ? {} : { discard: "unmap", "detect-zeroes": "unmap" }),
    cache: { direct: false, "no-flush": true },
    file: {
      driver: "file",
      filename: disk.path,
      "read-only": disk.readOnly,
      ...(disk.readOnly ? {} : { discard: "unmap" }),
      cache: { direct: false, "no-flush": true },
    },
  };
  // An error is the guest's to see: stopping the VM, QEMU's way when the host's disk is full, would look like a hang.
  const device = `virtio-blk-pci,drive=${node},serial=${escapeCommas(disk.serial)},rerror=report,werror=report`;
  return ["-blockdev", JSON.stringify(blockdev), "-device", device];
}

function nicArguments(nic: NicSpec, index: number, vhostNet: boolean): string[] {
  const id = `net${index}`;
  const vhost = vhostNet ? ",vhost=on" : "";
  return [
    ...["-netdev", `tap,id=${id},ifname=${nic.tapName},script=no,downscript=no${vhost}`],
    // Without a boot ROM: nothing boots from the network.
    ...["-device", `virtio-net-pci,netdev=${id},mac=${nic.macAddress},romfile=`],
  ];
}
