/** Why a hypervisor ended at its start, in words that help. */
import { FleetingdError, messageOf } from "../errors.ts";
import type { VmExit, VmSpec } from "./driver.ts";
import type { HypervisorKind, VmControl } from "./vm-control.ts";

type Named = Pick<HypervisorKind<VmControl>, "title" | "hints">;

/** The error for a VM whose hypervisor ended before its guest ran. */
export function startFailure(kind: Named, spec: VmSpec, exit: VmExit, cause?: unknown): FleetingdError {
  const ending =
    exit.signal !== undefined ? `was ended by ${exit.signal}` : `ended with exit code ${exit.exitCode}`;
  const output = exit.lastOutput === "" ? " and said nothing" : `:\n${exit.lastOutput}`;
  return new FleetingdError(
    "HYPERVISOR_FAILED",
    `${kind.title} ${ending} at the start of the VM ${spec.id}${output}`,
    { hint: hintFor(kind, exit.lastOutput), cause },
  );
}

/** The error for a VM whose hypervisor lives and refuses to run it. */
export function refusedStart(kind: Named, spec: VmSpec, error: unknown): unknown {
  if (!(error instanceof FleetingdError) || error.code !== "HYPERVISOR_FAILED") return error;
  return new FleetingdError("HYPERVISOR_FAILED", `the VM ${spec.id} cannot start: ${error.message}`, {
    hint: error.hint ?? hintFor(kind, messageOf(error)),
    cause: error,
  });
}

function hintFor(kind: Named, text: string): string | undefined {
  return kind.hints.find(({ pattern }) => pattern.test(text))?.hint;
}
