/** Why QEMU ended at its start, in words that help. */
import { FleetingdError } from "../../errors.ts";
import type { VmExit, VmSpec } from "../driver.ts";

const HINTS: readonly { pattern: RegExp; hint: string }[] = [
  {
    pattern: /Cannot allocate memory|cannot set up guest memory/i,
    hint: "Give VMs less memory, or run fewer of them.",
  },
  { pattern: /Failed to get .*lock/, hint: "Another process, perhaps another VM, has this disk open." },
  {
    pattern: /could not configure .*Device or resource busy/,
    hint: "Another process uses this network device.",
  },
  { pattern: /Could not access KVM kernel module/, hint: "Check that /dev/kvm is there and may be opened." },
  { pattern: /No space left on device/, hint: "Make room on the disk that holds the VMs." },
];

/** Lines of QEMU's output that help nobody: what the emulated processor lacks. */
export function isNoise(line: string): boolean {
  return line.includes("warning: TCG doesn't support requested feature");
}

/** The error for a VM whose QEMU ended before its guest ran. */
export function startFailure(spec: VmSpec, exit: VmExit, cause?: unknown): FleetingdError {
  const ending =
    exit.signal !== undefined ? `was ended by ${exit.signal}` : `ended with exit code ${exit.exitCode}`;
  const output = exit.lastOutput === "" ? " and said nothing" : `:\n${exit.lastOutput}`;
  return new FleetingdError(
    "HYPERVISOR_FAILED",
    `QEMU ${ending} at the start of the VM ${spec.id}${output}`,
    {
      hint: HINTS.find(({ pattern }) => pattern.test(exit.lastOutput))?.hint,
      cause,
    },
  );
}
