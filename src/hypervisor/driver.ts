/**
 * What a hypervisor driver does. One driver runs many VMs; each VM is one process that outlives the daemon.
 *
 * - `start` returns when the process runs and the guest has been told to go; it does not wait for the guest.
 *   If it throws, nothing is left: no process, no socket.
 * - A VM's directory is the caller's: it exists before `start`, holds the driver's sockets and `console.log`,
 *   and is removed by the caller after the VM is gone.
 * - `adopt` takes over a VM that an earlier daemon started; undefined means that it is no longer alive.
 * - Every call may be made concurrently for different VMs, and `stop` any number of times.
 * - A guest that reboots keeps its process; a guest that powers off, or whose panic the hypervisor is told of, ends it.
 * - Nothing here keeps this process from ending: VMs go on without it. So wait for `exited` together with a timer.
 *
 * Snapshots, in the order of their life:
 *
 *     start(spec with memoryPath, hasChannel) ── the template runs, its memory is that file
 *       └─ saveState(folder) ── it is paused, its devices are in the folder; its only use is to be stopped
 *     restore(spec, snapshot), any number of times and at once ── memory mapped privately: copied where written to
 *       └─ openChannel ── the guest part hears who this clone is ── removeChannel, before anybody may log in
 */
import type { Duplex } from "node:stream";
import type { ProcessIdentity } from "../host/process.ts";

/**
 * The guest's flushes do not reach the host's disk, for a clone is worth nothing after a crash of the host: whoever
 * keeps a disk beyond its VM (a golden image) syncs the file when the VM is gone.
 */
export interface DiskSpec {
  /** Absolute path. */
  path: string;
  format: "raw" | "qcow2";
  readOnly: boolean;
  /** Shown in the guest as the disk's serial number (`/dev/disk/by-id/virtio-<serial>`), at most 20 characters. */
  serial: string;
}

export interface NicSpec {
  /** A TAP device that exists and is up. */
  tapName: string;
  macAddress: string;
}

/** What a VM's process may take of the host at most. */
export interface VmLimits {
  /** The guest's memory, and what the hypervisor needs besides. */
  memoryMiB: number;
  /** Its share where processors are short; 100 is that of everything else on the host. */
  cpuWeight: number;
  /** 100 is one processor of the host. */
  cpuPercent: number;
  /** Processes and threads. */
  tasks: number;
  /** Of reading, and of writing; 0: unlimited, and so below. */
  diskMiBPerSecond: number;
  diskOperationsPerSecond: number;
}

/** Everything a hypervisor needs to know of a VM: plain data, made by `sources/local`. */
export interface VmSpec {
  id: string;
  /** Absolute path of the VM's own directory. */
  directory: string;
  vcpus: number;
  memoryMiB: number;
  kernelPath: string;
  initrdPath?: string | undefined;
  /** The kernel command line without `console=`, which is the driver's to choose. */
  kernelArguments: readonly string[];
  /** In the order in which the guest sees them: vda, vdb, … */
  disks: readonly DiskSpec[];
  nics: readonly NicSpec[];
  /** The device behind the guest's console; its output always goes to `console.log` in the directory. */
  console: "serial" | "virtio";
  /**
   * Of a template: a file that the driver makes, `memoryMiB` large, and that is the guest's memory. Nothing of it may
   * be in memory of the process's own, so that the file and `saveState` together are the whole VM.
   */
  memoryPath?: string | undefined;
  /**
   * Whether the VM has a channel between host and guest (a virtio-serial port named `fleetingd`, or vsock). Template and
   * clones have it, and nobody else.
   */
  hasChannel?: boolean | undefined;
  /**
   * The uid and gid that its process has, and nothing else on this host; left out: root's, without capabilities. With a driver
   * that `startsAsUser` the TAPs are this user's, and the folders of all files let it pass; the files themselves are the
   * driver's to give. A template has none: it writes its state at the end.
   */
  user?: number | undefined;
  /** Left out: none. */
  limits?: VmLimits | undefined;
}

/** What a template left. Whoever keeps it takes care that it neither changes nor goes while a clone runs. */
export interface Snapshot {
  /** The template's `memoryPath`. Clones map it privately and only read it. */
  memoryPath: string;
  /** The folder that `saveState` filled: its files are the driver's business. */
  stateDirectory: string;
  /** The spec's kernel, uncompressed: for a driver that `mapsKernel`. */
  kernelPath?: string | undefined;
}

/** What it takes to find a VM again. */
export interface VmHandle {
  id: string;
  directory: string;
  process: ProcessIdentity;
}

export type VmState = "running" | "paused" | "stopped";

export interface VmExit {
  /** Undefined for an adopted VM, whose exit code only its parent could know. */
  exitCode: number | undefined;
  signal: string | undefined;
  /** The last lines that the hypervisor wrote to its output, for the error message. */
  lastOutput: string;
}

export interface RunningVm {
  readonly id: string;
  readonly process: ProcessIdentity;
  /** Settles once when the process is gone, whatever ended it; never rejects. */
  readonly exited: Promise<VmExit>;
  /** Settles with the reason when a disk fails for the first time, as when the host's is full; mostly never. */
  readonly diskFailed: Promise<string>;
  state(): Promise<VmState>;
  /**
   * Presses the power button (of a paused VM after it goes on), waits up to `graceMs`, then ends the process by force. With
   * 0 it ends by force at once. Returns when the process is gone.
   */
  stop(options: { graceMs: number }): Promise<void>;
  /**
   * Stops the guest where it is and writes the state of its devices into an existing, empty folder. Memory is in the
   * spec's `memoryPath` already; what the guest wrote to its disks is in their files. Nothing is made durable.
   * Afterwards the VM stays paused, and whoever wants the snapshot stops it (by force) before the first `restore`.
   * @throws FleetingdError HYPERVISOR_FAILED, TIMEOUT; the VM can then only be stopped
   */
  saveState(stateDirectory: string, options: { timeoutMs: number }): Promise<void>;
  /**
   * The host's end of the channel of a spec with `hasChannel`: a stream of bytes to and from the one process in the guest that has
   * opened its end. It may be opened before the guest has. One at a time.
   */
  openChannel(options: { timeoutMs: number }): Promise<Duplex>;
  /**
   * Takes the channel from the guest for good, an open stream with it: when this resolves nobody in the guest, root
   * included, can reach the host by it, and no later `openChannel` succeeds. Any number of times.
   */
  removeChannel(options: { timeoutMs: number }): Promise<void>;
  /** The guest stops where it is and takes no more CPU; of a paused VM it does nothing. */
  pause(): Promise<void>;
  /** The guest goes on; of a running VM it does nothing. */
  resume(): Promise<void>;
  /**
   * Asks the guest to give this much of its memory back to the host; 0: it may have all again. A running guest does so
   * little by little, and takes memory back by itself before it would run out of it.
   * @throws FleetingdError HYPERVISOR_FAILED if the VM has no balloon, as one that shares a template's memory
   */
  resizeBalloon(balloonMiB: number): Promise<void>;
  /** How much the guest has given back. Of Cloud Hypervisor: what it was asked for, for that tells no more. */
  balloonMiB(): Promise<number>;
}

/** Of a driver that can save and restore, with the version of the hypervisor that is installed. */
export interface SnapshotSupport {
  /**
   * All that a snapshot depends on besides its spec, as one text: hypervisor, version, machine type, processor model,
   * and of the host's processor what the guest sees of it. A snapshot is only restored where this is the same.
   */
  readonly platform: string;
  /**
   * Whether a clone takes less memory if the kernel that it boots when its guest reboots is given to it uncompressed (an ELF
   * file with a PVH entry), too.
   */
  readonly mapsKernel: boolean;
  /**
   * Like `start`, but the guest goes on where the template stood. The spec is the template's but for id, directory, the disks' paths (which
   * have the template's content at `saveState`), TAPs, MACs and kernel arguments (which count from its first reboot on).
   * It has no `memoryPath`. The guest's NIC either has the spec's MAC (a driver that plugs it in anew) or still the
   * template's (one that cannot change it): the guest part copes with both, and after a reboot it is the spec's.
   */
  restore(spec: VmSpec, snapshot: Snapshot, signal?: AbortSignal): Promise<RunningVm>;
}

export interface HypervisorDriver {
  readonly name: "qemu" | "cloud-hypervisor";
  /** The hypervisor's version and how it executes guests, for logs and `status`. */
  readonly description: string;
  /** Undefined: VMs of this driver can only boot. */
  readonly snapshots: SnapshotSupport | undefined;
  /** Whether a VM's process has its user from the beginning, so that this user opens all of the VM's files and TAPs. */
  readonly startsAsUser: boolean;
  start(spec: VmSpec, signal?: AbortSignal): Promise<RunningVm>;
  /**
   * Undefined if the process is gone, or if its pid belongs to something else by now.
   * A VM that lives but does not answer is adopted all the same, so that it can be stopped.
   */
  adopt(vm: VmHandle): Promise<RunningVm | undefined>;
  /** The living VMs whose directories are in one of these folders, with or without a record: for the sweep at start. */
  list(...parentDirectories: readonly string[]): Promise<VmHandle[]>;
}

/** The file in a VM's directory that holds what the guest printed on its console. */
export const CONSOLE_LOG = "console.log";

/** The file in a VM's directory that holds what the hypervisor itself printed. */
export const HYPERVISOR_LOG = "hypervisor.log";
