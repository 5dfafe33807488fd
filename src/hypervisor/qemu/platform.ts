/** What differs between processor architectures, and what an installed QEMU offers. */
import { FleetingdError } from "../../errors.ts";
import { findProgram } from "../../host/files.ts";
import { run } from "../../host/run.ts";

/** An architecture as QEMU knows it. */
export interface Platform {
  program: string;
  /** Where Debian and Ubuntu have the program. */
  packageName: string;
  /** Machine types are this and a version. */
  machinePrefix: string;
  /** Leaves out what no guest of ours uses. */
  machineOptions: string;
  kvmCpu: string;
  tcgCpu: string;
  serialConsole: string;
}

/** An installed QEMU. */
export interface QemuBinary {
  platform: Platform;
  path: string;
  version: string;
  /** The newest versioned machine type: a snapshot can only be resumed on the very same one. */
  machine: string;
}

const PLATFORMS: Readonly<Record<string, Platform>> = {
  x64: {
    program: "qemu-system-x86_64",
    packageName: "qemu-system-x86",
    machinePrefix: "pc-q35-",
    machineOptions: "usb=off,vmport=off,sata=off,smbus=off,dump-guest-core=off",
    // Jobs get no nested virtualization: it only adds to what a guest can attack.
    kvmCpu: "host,vmx=off,svm=off",
    // The quickest model under emulation.
    tcgCpu: "EPYC-v1",
    serialConsole: "ttyS0",
  },
  arm64: {
    program: "qemu-system-aarch64",
    packageName: "qemu-system-arm",
    machinePrefix: "virt-",
    machineOptions: "gic-version=max,dump-guest-core=off",
    kvmCpu: "host",
    tcgCpu: "max",
    serialConsole: "ttyAMA0",
  },
};

/**
 * @param architecture as in `process.arch`
 * @throws FleetingdError UNAVAILABLE for an architecture that is not supported.
 */
export function platformOf(architecture: string = process.arch): Platform {
  const platform = PLATFORMS[architecture];
  if (platform !== undefined) return platform;
  throw new FleetingdError("UNAVAILABLE", `VMs cannot run on a host of the architecture ${architecture}`, {
    hint: `Use a host with one of: ${Object.keys(PLATFORMS).join(", ")}.`,
  });
}

/**
 * Finds QEMU and asks it for its version and machine types.
 * @throws FleetingdError MISSING_PROGRAM with the package to install; UNAVAILABLE if it is unusable.
 */
export async function findQemu(platform: Platform = platformOf()): Promise<QemuBinary> {
  const path = await findProgram(platform.program);
  if (path === undefined) {
    throw new FleetingdError("MISSING_PROGRAM", `the program ${platform.program} is not installed`, {
      hint: `Install the package ${platform.packageName}.`,
    });
  }
  const [version, machines] = await Promise.all([
    run(path, ["--version"], { timeoutMs: 10_000 }),
    run(path, ["-machine", "help"], { timeoutMs: 10_000 }),
  ]);
  const machine = newestMachine(machines.stdout, platform.machinePrefix);
  if (machine === undefined) {
    throw new FleetingdError("UNAVAILABLE", `${path} offers no machine type ${platform.machinePrefix}*`, {
      hint: `Install the package ${platform.packageName} of the distribution, version 6.2 or newer.`,
    });
  }
  return { platform, path, version: parseVersion(version.stdout), machine };
}

/** The newest of the machine types `<prefix><version>` in the output of `-machine help`. */
export function newestMachine(help: string, prefix: string): string | undefined {
  const versions = help
    .split("\n")
    .map((line) => line.split(" ", 1)[0] ?? "")
    .filter((name) => name.startsWith(prefix) && /^\d+(\.\d+)+$/.test(name.slice(prefix.length)))
    .map((name) => name.slice(prefix.length).split(".").map(Number));
  const newest = versions.sort(compareVersions).at(-1);
  return newest === undefined ? undefined : `${prefix}${newest.join(".")}`;
}

/** `7.2.22` out of `QEMU emulator version 7.2.22 (Debian …)`. */
export function parseVersion(output: string): string {
  return /version (\d+(?:\.\d+)+)/.exec(output)?.[1] ?? "of unknown version";
}

/** Whether a version as `parseVersion` gives it is `wanted` or newer. */
export function isAtLeast(version: string, wanted: readonly number[]): boolean {
  return compareVersions(version.split(".").map(Number), wanted) >= 0;
}

function compareVersions(a: readonly number[], b: readonly number[]): number {
  for (let index = 0; index < Math.max(a.length, b.length); index++) {
    const difference = (a[index] ?? 0) - (b[index] ?? 0);
    if (difference !== 0) return difference;
  }
  return 0;
}
