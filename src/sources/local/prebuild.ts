/** Runs the prebuild VM: boots a work disk once with whole cloud-init until the guest powers itself off. */
import { dirname, join } from "node:path";
import { writeSeed } from "../../cloudinit/iso.ts";
import { prebuildKernelArguments } from "../../cloudinit/kernel-arguments.ts";
import { PREBUILD_CONSOLE_PREFIX, REPORT_DISK_MIB, REPORT_DISK_SERIAL } from "../../cloudinit/prebuild.ts";
import { renderPrebuildSeed, SEED_DISK_SERIAL } from "../../cloudinit/seed.ts";
import { FleetingdError } from "../../errors.ts";
import { ensureDirectory, readTextIfExists, removeTree } from "../../host/files.ts";
import { sleep } from "../../host/wait.ts";
import { CONSOLE_LOG, type RunningVm, type VmSpec } from "../../hypervisor/driver.ts";
import type { BaseImage } from "../../images/image.ts";
import { createReportDisk } from "../../images/report.ts";
import type { Ipv6Prefix } from "../../network/ipv6.ts";
import { type SlotNetwork, slotNetwork, type VmSubnet } from "../../network/slots.ts";
import type { LocalHost } from "./host.ts";
import { limitsOf, type ProcessLimits } from "./vm.ts";
import { letPass, takeBack, tapOwner } from "./vm-user.ts";

export interface PrebuildRun {
  id: string;
  base: BaseImage;
  /** The pool's, in which the images are. */
  diskDirectory: string;
  /** A writable raw copy of the base's disk, grown to its final size. */
  workDiskPath: string;
  userData: string;
  vcpus: number;
  memoryMiB: number;
  limits: ProcessLimits;
  console: "serial" | "virtio";
  subnet: VmSubnet;
  subnet6: Ipv6Prefix | undefined;
  egressInterface: string | undefined;
  dnsServers: readonly string[];
  timeoutMs: number;
  signal: AbortSignal;
  onStep(step: string): void;
}

const POLL_MS = 500;
const SHOWN_CONSOLE_LINES = 20;

/**
 * Runs the VM to its end and hands its report disk to `readReport` before everything of it is removed.
 * @throws FleetingdError PREBUILD_FAILED with the end of its console if it does not power off in time.
 */
export async function runPrebuildVm<T>(
  host: LocalHost,
  options: PrebuildRun,
  readReport: (reportDiskPath: string) => Promise<T>,
): Promise<T> {
  const directory = join(host.stateDirectory, "prebuild", options.id);
  const reportDiskPath = join(directory, "report.raw");
  const leases = host.leasesOf(options.subnet);
  const network = slotNetwork(options.subnet, leases.acquire().slot, options.subnet6);
  const user = host.users.acquire();
  let vm: RunningVm | undefined;
  try {
    await removeTree(directory);
    await ensureDirectory(directory);
    await createReportDisk(reportDiskPath, REPORT_DISK_MIB);
    const seedPath = join(directory, "seed.iso");
    const guestNetwork = { ...network, dnsServers: options.dnsServers };
    const seed = renderPrebuildSeed({
      instanceId: options.id,
      userData: options.userData,
      network: guestNetwork,
    });
    await writeSeed(seedPath, seed, options.signal);
    await host.fabric.attach({
      ...{ network, egressInterface: options.egressInterface },
      tapOwner: tapOwner(host, user),
    });
    await letPass(host, options.diskDirectory, [
      dirname(directory),
      dirname(options.workDiskPath),
      dirname(options.base.kernelPath),
    ]);
    vm = await host.hypervisor.start(
      { ...prebuildSpec(options, directory, network, host.emulated), user },
      options.signal,
    );
    await untilPoweredOff(vm, directory, options);
    await takeBack(host, options.workDiskPath);
    return await readReport(reportDiskPath);
  } finally {
    await vm?.stop({ graceMs: 0 });
    await host.fabric.detach(network);
    leases.release(network.slot);
    if (user !== undefined) host.users.release(user);
    await removeTree(directory);
  }
}

function prebuildSpec(
  options: PrebuildRun,
  directory: string,
  network: SlotNetwork,
  emulated: boolean,
): VmSpec {
  return {
    id: options.id,
    directory,
    vcpus: options.vcpus,
    memoryMiB: options.memoryMiB,
    kernelPath: options.base.kernelPath,
    initrdPath: options.base.initrdPath,
    kernelArguments: prebuildKernelArguments(options.base, { emulated }),
    disks: [
      { path: options.workDiskPath, format: "raw", readOnly: false, serial: "fleetingd-root" },
      { path: join(directory, "seed.iso"), format: "raw", readOnly: true, serial: SEED_DISK_SERIAL },
      { path: join(directory, "report.raw"), format: "raw", readOnly: false, serial: REPORT_DISK_SERIAL },
    ],
    nics: [{ tapName: network.tapName, macAddress: network.macAddress }],
    console: options.console,
    limits: limitsOf(options, options.limits),
  };
}

async function untilPoweredOff(vm: RunningVm, directory: string, options: PrebuildRun): Promise<void> {
  const consolePath = join(directory, CONSOLE_LOG);
  const deadline = performance.now() + options.timeoutMs;
  let ended = false;
  void vm.exited.then(() => {
    ended = true;
  });
  let lastStep = "";
  for (;;) {
    const step = lastConsoleStep((await readTextIfExists(consolePath)) ?? "");
    if (step !== undefined && step !== lastStep) options.onStep(step);
    lastStep = step ?? lastStep;
    if (ended) break;
    if (performance.now() >= deadline) {
      throw new FleetingdError(
        "PREBUILD_FAILED",
        `the prebuild VM was not done after ${options.timeoutMs / 1000} s; its console ended with:\n${await consoleTail(consolePath)}`,
        { hint: "Raise prebuild_timeout, or see which command takes so long." },
      );
    }
    await sleep(POLL_MS, options.signal);
  }
  const exit = await vm.exited;
  if (exit.exitCode === 0) return;
  throw new FleetingdError(
    "PREBUILD_FAILED",
    `the prebuild VM did not end by a clean power-off (${exit.signal ?? exit.exitCode}): ${exit.lastOutput}\n${await consoleTail(consolePath)}`,
  );
}

/** What the guest said last of its progress, by its console. */
export function lastConsoleStep(console: string): string | undefined {
  const at = console.lastIndexOf(PREBUILD_CONSOLE_PREFIX);
  if (at < 0) return undefined;
  return console.slice(at + PREBUILD_CONSOLE_PREFIX.length).split(/[\r\n]/, 1)[0];
}

/** The last lines of a console log; empty if there is none. */
export async function consoleTail(path: string): Promise<string> {
  const text = (await readTextIfExists(path)) ?? "";
  return text.trimEnd().split("\n").slice(-SHOWN_CONSOLE_LINES).join("\n");
}
