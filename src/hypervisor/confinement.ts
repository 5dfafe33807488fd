/**
 * What a hypervisor's process is stripped of before its program begins, the same for every hypervisor: words to put before
 * its command.
 *
 *     systemd-run (a cgroup of its own, where systemd runs the host) ── setpriv (capabilities) ── hypervisor ── its own drop
 *
 * Each of them becomes the next one, so it is one process all along.
 */
import { messageOf } from "../errors.ts";
import { findProgram, readTextIfExists } from "../host/files.ts";
import { run } from "../host/run.ts";
import type { Logger } from "../log.ts";
import type { VmLimits, VmSpec } from "./driver.ts";

/** What a hypervisor may keep until it has opened all that it needs. */
export type Capability = "setuid" | "setgid" | "sys_chroot";

/** Whom a process becomes, with no other groups than these besides its own, which has the user's number. */
export interface ProcessUser {
  id: number;
  groups: readonly number[];
}

export interface Confinement {
  /** Whether capabilities can be taken from it at all. */
  readonly canStrip: boolean;
  /** Whether each VM has a cgroup of its own, with the limits of its spec. */
  readonly hasCgroups: boolean;
  /**
   * Words to put before the command of a VM's hypervisor.
   * @param kept The only capabilities that it has; whatever it becomes, it never gets others.
   * @param user Whom it is from the beginning; left out: root's user. Only where it can be stripped.
   */
  words(
    vm: Pick<VmSpec, "id" | "disks" | "limits">,
    kept: readonly Capability[],
    user?: ProcessUser,
  ): string[];
}

const TIMEOUT_MS = 10_000;
/** All that a hypervisor opens besides files; the rest of /dev is shut. */
const DEVICES = ["/dev/kvm", "/dev/net/tun", "/dev/vhost-net", "/dev/vhost-vsock"];

/** How VMs' processes are started on this host; what can't be taken from them here is told of. */
export async function findConfinement(logger: Logger): Promise<Confinement> {
  const [canStrip, hasCgroups] = [await canBeStripped(logger), await hasSystemd(logger)];
  return {
    canStrip,
    hasCgroups,
    words: (vm, kept, user) => [
      ...(hasCgroups && vm.limits !== undefined ? scopeWords(vm.id, vm.limits, vm.disks[0]?.path) : []),
      ...(canStrip ? strippingWords(kept, user) : []),
    ],
  };
}

/** No capabilities but these, and no way to any: the TAP is opened as its owner, disks as theirs. */
export function strippingWords(kept: readonly Capability[], user?: ProcessUser): string[] {
  // What is inherited has to be in the bounding set at that moment, so that is emptied by a second one.
  const inherit = ["setpriv", `--inh-caps=${["-all", ...kept.map((name) => `+${name}`)].join(",")}`, "--"];
  const strip = ["setpriv", "--no-new-privs", "--ambient-caps=-all", "--bounding-set=-all"];
  return [...inherit, ...strip, ...(user === undefined ? [] : userWords(user)), "--"];
}

function userWords({ id, groups }: ProcessUser): string[] {
  return [
    `--reuid=${id}`,
    `--regid=${id}`,
    groups.length === 0 ? "--clear-groups" : `--groups=${groups.join(",")}`,
  ];
}

/**
 * A scope: a cgroup that systemd makes and removes together with the process. It is no part of the daemon's unit, so
 * nothing that happens to that one concerns it.
 * @param diskPath A file on the device whose bandwidth is limited.
 */
export function scopeWords(id: string, limits: VmLimits, diskPath: string | undefined): string[] {
  const properties = [
    `MemoryMax=${limits.memoryMiB}M`,
    `CPUWeight=${limits.cpuWeight}`,
    `CPUQuota=${limits.cpuPercent}%`,
    `TasksMax=${limits.tasks}`,
    ...(diskPath === undefined ? [] : diskProperties(limits, diskPath)),
    "DevicePolicy=closed",
    ...DEVICES.map((path) => `DeviceAllow=${path} rw`),
  ];
  return [
    ...["systemd-run", "--scope", "--quiet", "--collect"],
    ...[`--unit=fleetingd-${id}`, "--slice=fleetingd.slice", `--description=VM ${id} of fleetingd`],
    ...properties.map((property) => `--property=${property}`),
    "--",
  ];
}

function diskProperties(limits: VmLimits, path: string): string[] {
  const both = (what: string, value: number): string[] =>
    value === 0 ? [] : [`IORead${what}Max=${path} ${value}`, `IOWrite${what}Max=${path} ${value}`];
  return [
    ...both("Bandwidth", limits.diskMiBPerSecond * 1024 ** 2),
    ...both("IOPS", limits.diskOperationsPerSecond),
  ];
}

async function canBeStripped(logger: Logger): Promise<boolean> {
  const [program = "", ...words] = strippingWords([]);
  try {
    await run(program, [...words, "true"], { timeoutMs: TIMEOUT_MS });
    return true;
  } catch (error) {
    logger.warn("VMs' processes keep the daemon's capabilities, for they can't be taken from them here", {
      reason: messageOf(error),
      needs: "the program setpriv (util-linux) and CAP_SETPCAP",
    });
    return false;
  }
}

async function hasSystemd(logger: Logger): Promise<boolean> {
  const reason = await systemdObstacle();
  if (reason === undefined) return true;
  logger.warn("VMs' processes have no cgroup of their own, so the limits of the VMs are not in force", {
    reason,
    needs: "a host that systemd runs, with cgroup v2",
  });
  return false;
}

async function systemdObstacle(): Promise<string | undefined> {
  // In a pid namespace of another one's, whose socket may be there all the same, pids mean other processes.
  if ((await readTextIfExists("/proc/1/comm"))?.trim() !== "systemd")
    return "the first process is not systemd";
  if ((await readTextIfExists("/sys/fs/cgroup/cgroup.controllers")) === undefined)
    return "the host has no cgroup v2";
  if ((await findProgram("systemd-run")) === undefined) return "the program systemd-run is not installed";
  const limits = {
    memoryMiB: 64,
    cpuWeight: 100,
    cpuPercent: 100,
    tasks: 16,
    diskMiBPerSecond: 0,
    diskOperationsPerSecond: 0,
  };
  const [program = "", ...words] = scopeWords(`probe-${process.pid}`, limits, undefined);
  try {
    await run(program, [...words, "true"], { timeoutMs: TIMEOUT_MS });
    return undefined;
  } catch (error) {
    return messageOf(error);
  }
}
