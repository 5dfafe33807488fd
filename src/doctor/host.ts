/** Whether the host can run VMs: processor, programs, kernel, clock. */
import { access, constants } from "node:fs/promises";
import { hostProblems, TUN_DEVICE } from "../daemon/host-checks.ts";
import { describeError, FleetingdError } from "../errors.ts";
import { findProgram, readTextIfExists } from "../host/files.ts";
import { run } from "../host/run.ts";
import { detectAccelerator } from "../hypervisor/accelerator.ts";
import { type HypervisorChoice, openHypervisor } from "../hypervisor/select.ts";
import { silentLogger } from "../log.ts";
import { type Check, type Finding, fail, failure, ok, warn } from "./finding.ts";

const PROGRAM_TIMEOUT_MS = 10_000;
/** No clock is earlier but one that was never set. */
const EARLIEST_YEAR = 2025;

/** From this version on programs that read tables as JSON get along with a table that has an owner. */
const GUARD_VERSION = [1, 0, 7] as const;

export function hostChecks(choice: HypervisorChoice): Check[] {
  return [
    { area: "programs", look: programs },
    { area: "virtualization", look: () => virtualization(choice) },
    { area: "nftables", look: nftables },
    { area: "clock", look: clock },
  ];
}

async function programs(): Promise<Finding[]> {
  const problems = await hostProblems();
  if (problems.length === 0) return [ok(`the programs that VMs need and ${TUN_DEVICE} are there`)];
  return problems.map((problem) => ({
    ...failure(problem, "Install it."),
    fix: problem.code === "UNAVAILABLE" ? loadTun : undefined,
  }));
}

const loadTun = {
  what: "load the kernel module tun",
  run: async (): Promise<void> => void (await run("modprobe", ["tun"], { timeoutMs: PROGRAM_TIMEOUT_MS })),
};

/** Not what is promised: a VM is started. */
async function virtualization(choice: HypervisorChoice): Promise<Finding[]> {
  try {
    const accelerator = await detectAccelerator({ logger: silentLogger });
    const { description } = await openHypervisor({ choice, accelerator, logger: silentLogger });
    if (accelerator.kind === "kvm") return [ok(`VMs run with KVM, by ${description}`)];
    return [
      warn(
        `VMs are emulated by ${description}, which is ten times as slow. ${accelerator.reason}`,
        "Load the module `kvm_intel` or `kvm_amd` with modprobe, once the processor offers virtualization.",
      ),
    ];
  } catch (error) {
    if (!(error instanceof FleetingdError)) throw error;
    return [failure(error, "Install qemu-system-x86, or Cloud Hypervisor where KVM works.")];
  }
}

async function nftables(): Promise<Finding[]> {
  if ((await findProgram("nft")) === undefined) return [];
  try {
    const { stdout } = await run("nft", ["--version"], { timeoutMs: PROGRAM_TIMEOUT_MS });
    await run("nft", ["list", "tables"], { timeoutMs: PROGRAM_TIMEOUT_MS });
    const version = /v([\d.]+)/.exec(stdout)?.[1] ?? "of an unknown version";
    if (!isOlder(version, GUARD_VERSION)) return [ok(`nftables ${version} works`)];
    return [
      ok(
        `nftables ${version} works; before ${GUARD_VERSION.join(".")} VMs are open for a moment when somebody flushes the host's rules, unless rules_guard = true`,
      ),
    ];
  } catch (error) {
    return [
      fail(
        `nftables does not work: ${describeError(error)}`,
        "Run this as root; in a container, it needs CAP_NET_ADMIN and the host's module nf_tables (`modprobe nf_tables`).",
      ),
    ];
  }
}

function isOlder(version: string, than: readonly number[]): boolean {
  const numbers = version.split(".").map(Number);
  const at = than.findIndex((number, index) => numbers[index] !== number);
  return at >= 0 && (numbers[at] ?? 0) < (than[at] ?? 0);
}

async function clock(): Promise<Finding[]> {
  const now = new Date();
  if (now.getFullYear() < EARLIEST_YEAR) {
    return [
      fail(
        `the clock says ${now.toISOString()}, so no certificate and no signature can be checked`,
        "Set it: `timedatectl set-ntp true`.",
      ),
    ];
  }
  if ((await readTextIfExists("/run/systemd/timesync/synchronized")) !== undefined)
    return [ok("the clock is kept right by systemd-timesyncd")];
  if ((await findProgram("timedatectl")) === undefined || !(await isReadable("/run/systemd/system")))
    return [ok(`the clock says ${now.toISOString()}; whether somebody keeps it right is not known`)];
  const args = ["show", "--property=NTPSynchronized", "--value"];
  const { stdout } = await run("timedatectl", args, {
    timeoutMs: PROGRAM_TIMEOUT_MS,
    acceptedExitCodes: [0, 1],
  });
  if (stdout.trim() === "yes") return [ok("the clock is kept right")];
  return [warn("nobody keeps the clock right", "Run `timedatectl set-ntp true`, or install chrony.")];
}

async function isReadable(path: string): Promise<boolean> {
  return access(path, constants.R_OK).then(
    () => true,
    () => false,
  );
}
