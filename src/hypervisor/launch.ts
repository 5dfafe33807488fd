/** From a command line to a running guest, or to nothing at all. */
import { join } from "node:path";
import { FleetingdError, systemErrorCode } from "../errors.ts";
import { exists, removeTree } from "../host/files.ts";
import { connectUnixSocket } from "../host/unix-socket.ts";
import { abortable, sleep } from "../host/wait.ts";
import type { Logger } from "../log.ts";
import type { VmSpec } from "./driver.ts";
import { type HypervisorProcess, launchHypervisor, settlesWithin } from "./hypervisor-process.ts";
import { type ManagedVm, manageVm } from "./managed-vm.ts";
import { refusedStart, startFailure } from "./start-failure.ts";
import type { HypervisorKind, VmControl } from "./vm-control.ts";

const CONNECT_INTERVAL_MS = 5;
const CLEANUP_TIMEOUT_MS = 5_000;
/** Between the end of the hypervisor's socket and the news that the process has ended. */
const EXIT_NEWS_MS = 1_000;

export interface LaunchOptions<C extends VmControl> {
  kind: HypervisorKind<C>;
  logger: Logger;
  /** How long it may take from its start until the guest runs. */
  startTimeoutMs: number;
  signal: AbortSignal | undefined;
  /** Makes the directory ready; by then it is sure that no VM runs in it. */
  prepare?(): Promise<void>;
  /** A file that it has as its standard input; nothing if it is left out. */
  inputPath?: string;
  /** Tells a hypervisor that answers what is to be told until its guest runs; it may get all of it by its arguments. */
  begin?(control: C, timeoutMs: number): Promise<void>;
}

/**
 * Starts the hypervisor and returns when the guest runs.
 * @throws FleetingdError ALREADY_EXISTS if a VM runs in this directory; CANCELLED; HYPERVISOR_FAILED with its last
 *   output, or its answer. Nothing is left then.
 */
export async function launchVm<C extends VmControl>(
  command: readonly string[],
  spec: VmSpec,
  options: LaunchOptions<C>,
): Promise<ManagedVm<C>> {
  throwIfAborted(spec, options.signal);
  const { kind } = options;
  await removeStaleSockets(kind, spec);
  await options.prepare?.();
  const { process, exited } = await launchHypervisor(command, spec.directory, kind, options.inputPath);
  if (process === undefined) {
    // It had ended before anybody looked at it, perhaps not before it made its socket.
    const exit = await exited;
    await removeStaleSockets(kind, spec);
    throw startFailure(kind, spec, exit);
  }
  const vm = manageVm(kind, spec, process, options.logger);
  try {
    await waitUntilRunning(vm, spec, options);
    return vm;
  } catch (error) {
    const hasEnded = await settlesWithin(vm.exited, options.signal?.aborted ? 0 : EXIT_NEWS_MS);
    await endAtOnce(vm, process);
    throw hasEnded ? startFailure(kind, spec, await vm.exited, error) : refusedStart(kind, spec, error);
  }
}

/** Waits for the first answer, and tells what is to be told: by then all that was given is open, and the guest runs. */
async function waitUntilRunning<C extends VmControl>(
  vm: ManagedVm<C>,
  spec: VmSpec,
  options: LaunchOptions<C>,
): Promise<void> {
  const deadline = performance.now() + options.startTimeoutMs;
  const left = (): number => Math.max(1, deadline - performance.now());
  let hasExited = false;
  void vm.exited.then(() => {
    hasExited = true;
  });
  for (;;) {
    throwIfAborted(spec, options.signal);
    try {
      await unlessAborted(vm.control.open(left()), spec, options.signal);
      break;
    } catch (error) {
      const code = systemErrorCode(error);
      // It makes its socket a few milliseconds after its start.
      const isEarly = code === "ENOENT" || code === "ECONNREFUSED";
      if (!isEarly || hasExited || performance.now() >= deadline) throw error;
    }
    await sleep(CONNECT_INTERVAL_MS, options.signal);
  }
  if (options.begin !== undefined) {
    await unlessAborted(options.begin(vm.control, left()), spec, options.signal);
  }
  const state = await vm.state();
  if (state === "running") return;
  throw new FleetingdError("HYPERVISOR_FAILED", `the VM ${spec.id} is ${state} right after its start`);
}

async function endAtOnce(vm: ManagedVm<VmControl>, process: HypervisorProcess): Promise<void> {
  await process.terminate(0);
  // The socket is removed before this settles.
  await settlesWithin(vm.exited, CLEANUP_TIMEOUT_MS);
}

/** A killed hypervisor leaves its sockets; one that is still answered belongs to a living VM. */
async function removeStaleSockets(kind: HypervisorKind<VmControl>, spec: VmSpec): Promise<void> {
  const path = join(spec.directory, kind.socketName);
  if (await exists(path)) await removeIfUnanswered(path, spec);
  await removeTree(join(spec.directory, kind.channelSocketName));
}

async function removeIfUnanswered(path: string, spec: VmSpec): Promise<void> {
  try {
    (await connectUnixSocket(path, CLEANUP_TIMEOUT_MS)).destroy();
  } catch (error) {
    if (systemErrorCode(error) === undefined) throw error;
    return removeTree(path);
  }
  throw new FleetingdError("ALREADY_EXISTS", `a VM runs in ${spec.directory} already`);
}

async function unlessAborted<T>(work: Promise<T>, spec: VmSpec, signal: AbortSignal | undefined): Promise<T> {
  return signal === undefined ? work : abortable(work, signal, cancelled(spec).message);
}

function throwIfAborted(spec: VmSpec, signal: AbortSignal | undefined): void {
  if (signal?.aborted) throw cancelled(spec);
}

function cancelled(spec: VmSpec): FleetingdError {
  return new FleetingdError("CANCELLED", `the start of the VM ${spec.id} was cancelled`);
}
