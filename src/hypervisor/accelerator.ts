/**
 * Whether this host can run guests at full speed. A processor flag or a device file alone proves nothing (both are
 * there in containers and nested VMs where KVM does not work), so the last word has a VM that really runs.
 */
import { open, readFile } from "node:fs/promises";
import { describeError, FleetingdError, systemErrorCode } from "../errors.ts";
import type { Logger } from "../log.ts";
import { probeVm } from "./probe-vm.ts";

export interface Accelerator {
  kind: "kvm" | "tcg";
  /** One sentence: why this one. */
  reason: string;
}

export interface DetectOptions {
  logger: Logger;
  cpuinfoPath?: string;
  devicePath?: string;
  architecture?: string;
  /** Runs a VM with KVM and throws if that fails. */
  probe?: () => Promise<void>;
}

/**
 * Finds out how guests can be executed here, and logs it.
 * @throws FleetingdError MISSING_PROGRAM if there is no QEMU to try with.
 */
export async function detectAccelerator(options: DetectOptions): Promise<Accelerator> {
  const obstacle =
    (await processorObstacle(options)) ?? (await deviceObstacle(options)) ?? (await probeObstacle(options));
  if (obstacle === undefined) {
    const reason = "KVM works: a VM was started with it.";
    options.logger.info("VMs run with KVM", { reason });
    return { kind: "kvm", reason };
  }
  const reason = `KVM cannot be used: ${obstacle}.`;
  options.logger.warn("VMs are emulated (TCG), which is slow", { reason });
  return { kind: "tcg", reason };
}

async function processorObstacle(options: DetectOptions): Promise<string | undefined> {
  // Only x86 names the feature; elsewhere the device file appears only with it.
  if ((options.architecture ?? process.arch) !== "x64") return undefined;
  const path = options.cpuinfoPath ?? "/proc/cpuinfo";
  const hasFlag = /^flags\s*:.*\b(vmx|svm)\b/m.test(await readFile(path, "utf8"));
  return hasFlag
    ? undefined
    : "the processor offers neither vmx nor svm (switch on virtualization in the firmware, or nested virtualization in the hypervisor around this host)";
}

async function deviceObstacle(options: DetectOptions): Promise<string | undefined> {
  const path = options.devicePath ?? "/dev/kvm";
  try {
    await (await open(path, "r+")).close();
    return undefined;
  } catch (error) {
    const code = systemErrorCode(error);
    if (code === undefined) throw error;
    if (code === "ENOENT") return `there is no ${path} (load the kernel module kvm_intel or kvm_amd)`;
    if (code === "EACCES" || code === "EPERM")
      return `${path} may not be opened by this user (add it to the group kvm)`;
    return `${path} cannot be opened (${code})`;
  }
}

async function probeObstacle(options: DetectOptions): Promise<string | undefined> {
  try {
    await (options.probe ?? (() => probeVm("kvm")))();
    return undefined;
  } catch (error) {
    if (error instanceof FleetingdError && error.code === "MISSING_PROGRAM") throw error;
    return `a VM did not start with it (${describeError(error).replaceAll("\n", "; ")})`;
  }
}
