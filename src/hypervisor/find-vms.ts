/** VMs that an earlier daemon started: found by their processes, and taken over. */
import { dirname, resolve } from "node:path";
import { messageOf } from "../errors.ts";
import { isAlive, processArguments } from "../host/process.ts";
import { listProcesses } from "../host/process-list.ts";
import type { Logger } from "../log.ts";
import type { RunningVm, VmHandle } from "./driver.ts";
import { watchHypervisor } from "./hypervisor-process.ts";
import { manageVm } from "./managed-vm.ts";
import type { HypervisorKind, VmControl } from "./vm-control.ts";

const ADOPT_TIMEOUT_MS = 5_000;

/** Takes over the VM of a record; undefined if it is gone, or if its pid is something else by now. */
export async function adoptVm(
  kinds: readonly HypervisorKind<VmControl>[],
  handle: VmHandle,
  logger: Logger,
): Promise<RunningVm | undefined> {
  const argumentVector = (await processArguments(handle.process.pid)) ?? [];
  const kind = kinds.find((one) => isVmProcess(one, argumentVector, handle));
  if (kind === undefined) return undefined;
  // Last, so that the arguments were those of the very process that the record names.
  if (!(await isAlive(handle.process))) return undefined;
  const vm = manageVm(kind, handle, watchHypervisor(handle.process, handle.directory, kind.isNoise), logger);
  try {
    await vm.control.open(ADOPT_TIMEOUT_MS);
  } catch (error) {
    if (!(await isAlive(handle.process))) return undefined;
    logger.warn("a VM of an earlier run lives but does not answer; it can only be stopped", {
      instance: handle.id,
      error: messageOf(error),
    });
  }
  return vm;
}

/** The living VMs of these kinds whose directories are in one of `parentDirectories`. */
export async function listVms(
  kinds: readonly HypervisorKind<VmControl>[],
  parentDirectories: readonly string[],
): Promise<VmHandle[]> {
  const parents = new Set(parentDirectories.map((directory) => resolve(directory)));
  const found: VmHandle[] = [];
  for (const { identity, arguments: argumentVector } of await listProcesses()) {
    for (const kind of kinds) {
      const vm = kind.parseProcess(argumentVector);
      if (vm !== undefined && parents.has(dirname(vm.directory))) found.push({ ...vm, process: identity });
    }
  }
  return found;
}

function isVmProcess(
  kind: HypervisorKind<VmControl>,
  argumentVector: readonly string[],
  vm: VmHandle,
): boolean {
  const found = kind.parseProcess(argumentVector);
  return found?.id === vm.id && found.directory === resolve(vm.directory);
}
