/** From a command line to a running guest, or to nothing at all. */
import { join } from "node:path";
import { FleetingdError, systemErrorCode } from "../../errors.ts";
import { exists, removeTree } from "../../host/files.ts";
import { connectUnixSocket } from "../../host/unix-socket.ts";
import { sleep } from "../../host/wait.ts";
import type { Logger } from "../../log.ts";
import type { VmSpec } from "../driver.ts";
import { type HypervisorProcess, launchHypervisor, settlesWithin } from "../hypervisor-process.ts";
import { QMP_SOCKET } from "./arguments.ts";
import { loadDevices } from "./migration.ts";
import { isNoise, startFailure } from "./start-failure.ts";
import { manageVm, type QemuVm } from "./vm.ts";

const CONNECT_INTERVAL_MS = 5;
const CLEANUP_TIMEOUT_MS = 5_000;
/** Between the end of QEMU's socket and the news that the process has ended. */
const EXIT_NEWS_MS = 1_000;

export interface LaunchOptions {
  logger: Logger;
  startTimeoutMs: number;
  signal: AbortSignal | undefined;
  /** The folder of the devices' state, for a QEMU that waits for it. */
  stateDirectory?: string;
}

/**
 * Starts QEMU and returns when the guest runs.
 * @throws FleetingdError ALREADY_EXISTS if a VM runs in this directory; CANCELLED; HYPERVISOR_FAILED with QEMU's last
 *   output. Nothing is left then.
 */
export async function launchVm(
  command: readonly string[],
  spec: VmSpec,
  options: LaunchOptions,
): Promise<QemuVm> {
  throwIfAborted(spec, options.signal);
  await removeStaleSocket(spec);
  const { process, exited } = await launchHypervisor(command, spec.directory, isNoise);
  if (process === undefined) throw startFailure(spec, await exited);
  const vm = manageVm(spec, process, options.logger);
  try {
    await waitUntilRunning(vm, spec, options);
    return vm;
  } catch (error) {
    const hasEnded = await settlesWithin(vm.exited, options.signal?.aborted ? 0 : EXIT_NEWS_MS);
    await endAtOnce(vm, process);
    throw hasEnded ? startFailure(spec, await vm.exited, error) : error;
  }
}

/** Waits for QEMU's first answer: by then it has opened all that it was given, and the guest runs. */
async function waitUntilRunning(vm: QemuVm, spec: VmSpec, options: LaunchOptions): Promise<void> {
  const deadline = performance.now() + options.startTimeoutMs;
  let hasExited = false;
  void vm.exited.then(() => {
    hasExited = true;
  });
  for (;;) {
    throwIfAborted(spec, options.signal);
    try {
      await abortable(vm.monitor.open(Math.max(1, deadline - performance.now())), spec, options.signal);
      break;
    } catch (error) {
      const code = systemErrorCode(error);
      // QEMU makes its socket a few milliseconds after its start.
      const isEarly = code === "ENOENT" || code === "ECONNREFUSED";
      if (!isEarly || hasExited || performance.now() >= deadline) throw error;
    }
    await sleep(CONNECT_INTERVAL_MS, options.signal);
  }
  if (options.stateDirectory !== undefined) {
    const party = { directory: spec.directory, monitor: vm.monitor };
    const load = loadDevices(party, options.stateDirectory, Math.max(1, deadline - performance.now()));
    await abortable(load, spec, options.signal);
  }
  const state = await vm.state();
  if (state === "running") return;
  throw new FleetingdError("HYPERVISOR_FAILED", `the VM ${spec.id} is ${state} right after its start`);
}

async function endAtOnce(vm: QemuVm, process: HypervisorProcess): Promise<void> {
  await process.terminate(0);
  // The socket is removed before this settles.
  await settlesWithin(vm.exited, CLEANUP_TIMEOUT_MS);
}

/** A killed QEMU leaves its socket; one that is still answered belongs to a living VM. */
async function removeStaleSocket(spec: VmSpec): Promise<void> {
  const path = join(spec.directory, QMP_SOCKET);
  if (!(await exists(path))) return;
  try {
    (await connectUnixSocket(path, CLEANUP_TIMEOUT_MS)).destroy();
  } catch (error) {
    if (systemErrorCode(error) === undefined) throw error;
    return removeTree(path);
  }
  throw new FleetingdError("ALREADY_EXISTS", `a VM runs in ${spec.directory} already`);
}

/** Fails with CANCELLED as soon as `signal` is aborted; `work` itself goes on. */
async function abortable<T>(work: Promise<T>, spec: VmSpec, signal: AbortSignal | undefined): Promise<T> {
  if (signal === undefined) return work;
  let onAbort = (): void => undefined;
  const aborted = new Promise<never>((_, reject) => {
    onAbort = () => reject(cancelled(spec));
    signal.addEventListener("abort", onAbort);
  });
  try {
    return await Promise.race([work, aborted]);
  } finally {
    signal.removeEventListener("abort", onAbort);
  }
}

function throwIfAborted(spec: VmSpec, signal: AbortSignal | undefined): void {
  if (signal?.aborted) throw cancelled(spec);
}

function cancelled(spec: VmSpec): FleetingdError {
  return new FleetingdError("CANCELLED", `the start of the VM ${spec.id} was cancelled`);
}
