/** The smallest VM: it shows that an accelerator executes guest code. */
import { mkdtemp, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { FleetingdError } from "../errors.ts";
import { removeTree } from "../host/files.ts";
import { run } from "../host/run.ts";
import { findQemu, type QemuBinary } from "./qemu/platform.ts";

const TIMEOUT_MS = 5_000;
const FIRMWARE_BYTES = 64 * 1024;
const EXIT_PORT = 0xf4;
const EXIT_VALUE = 0x10;
/** What the exit device makes of the value that the guest writes to it. */
const EXIT_CODE = (EXIT_VALUE << 1) | 1;

/**
 * Starts a VM with `accelerator`, lets it execute a few instructions, and waits for its end.
 * @throws FleetingdError MISSING_PROGRAM, or what went wrong.
 */
export async function probeVm(accelerator: "kvm" | "tcg"): Promise<void> {
  const qemu = await findQemu();
  const common = [
    ...["-nodefaults", "-no-user-config", "-display", "none", "-m", "16M"],
    ...["-machine", `${qemu.machine},${qemu.platform.machineOptions}`],
    ...["-accel", accelerator, "-cpu", accelerator === "kvm" ? qemu.platform.kvmCpu : qemu.platform.tcgCpu],
  ];
  if (process.arch === "x64") return probeWithFirmware(qemu, common);
  // No exit device here: that the VM can be made has to do.
  await run(qemu.path, [...common, "-S", "-monitor", "stdio"], { input: "quit\n", timeoutMs: TIMEOUT_MS });
}

async function probeWithFirmware(qemu: QemuBinary, common: readonly string[]): Promise<void> {
  const directory = await mkdtemp(join(tmpdir(), "fleetingd-probe-"));
  try {
    const firmwarePath = join(directory, "firmware");
    await writeFile(firmwarePath, probeFirmware());
    const exitDevice = ["-device", `isa-debug-exit,iobase=${EXIT_PORT},iosize=4`];
    const { exitCode } = await run(qemu.path, [...common, "-bios", firmwarePath, ...exitDevice], {
      timeoutMs: TIMEOUT_MS,
      acceptedExitCodes: [0, EXIT_CODE],
    });
    if (exitCode === EXIT_CODE) return;
    throw new FleetingdError("HYPERVISOR_FAILED", "the VM ended before it had executed anything");
  } finally {
    await removeTree(directory);
  }
}

/** Firmware whose reset vector, 16 bytes before its end, is `mov al, EXIT_VALUE; out EXIT_PORT, al; hlt`. */
function probeFirmware(): Buffer {
  const HALT = 0xf4;
  const firmware = Buffer.alloc(FIRMWARE_BYTES, HALT);
  Buffer.from([0xb0, EXIT_VALUE, 0xe6, EXIT_PORT, HALT]).copy(firmware, FIRMWARE_BYTES - 16);
  return firmware;
}
