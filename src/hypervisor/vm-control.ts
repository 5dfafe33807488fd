/**
 * What differs between hypervisors: how a VM's process is told things. All else of a VM's life (launch.ts, managed-vm.ts,
 * find-vms.ts) is the same for each.
 */
import type { Duplex } from "node:stream";
import type { Logger } from "../log.ts";
import type { VmExit, VmState } from "./driver.ts";

/** How to talk to one VM, as in `RunningVm`. Every call has a deadline, and may fail at any time because the VM ends. */
export interface VmControl {
  /**
   * Resolves when the hypervisor answers.
   * @throws the system error ENOENT or ECONNREFUSED while its socket is not there yet
   */
  open(timeoutMs: number): Promise<void>;
  state(timeoutMs: number): Promise<VmState>;
  pressPowerButton(timeoutMs: number): Promise<void>;
  pause(timeoutMs: number): Promise<void>;
  resume(timeoutMs: number): Promise<void>;
  resizeBalloon(balloonMiB: number, timeoutMs: number): Promise<void>;
  balloonMiB(timeoutMs: number): Promise<number>;
  saveState(stateDirectory: string, timeoutMs: number): Promise<void>;
  openChannel(timeoutMs: number): Promise<Duplex>;
  removeChannel(timeoutMs: number): Promise<void>;
  /** Asks the hypervisor itself to end. */
  quit(timeoutMs: number): Promise<void>;
  /** Settles with the reason when a disk fails for the first time. */
  readonly diskFailed: Promise<string>;
  /** Adds to the report of the VM's end what only the hypervisor told. */
  complete(exit: VmExit): Promise<VmExit>;
  /** The process is gone, or nobody asks any more. */
  close(): void;
}

export interface ControlOptions {
  id: string;
  directory: string;
  logger: Logger;
  /** The hypervisor said something that makes it worth looking whether its process has ended. */
  onLost(): void;
}

/** A hypervisor as far as its processes are concerned. */
export interface HypervisorKind<C extends VmControl> {
  /** For messages. */
  readonly title: string;
  /** Its socket in the VM's directory, which is its working directory: so the path is short wherever that is. */
  readonly socketName: string;
  /** The host's end of the channel, in the VM's directory as well. */
  readonly channelSocketName: string;
  /** The guest's console is its standard output. */
  readonly consoleIsOutput: boolean;
  /** What to do about an output that matches. */
  readonly hints: readonly { pattern: RegExp; hint: string }[];
  /** Lines of its output that help nobody. */
  isNoise(line: string): boolean;
  /** The VM that a process with these arguments is, or undefined if it is none of ours. */
  parseProcess(argumentVector: readonly string[]): { id: string; directory: string } | undefined;
  control(options: ControlOptions): C;
}
