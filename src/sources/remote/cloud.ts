/**
 * What a cloud must be able to do so that `RemoteSource` makes a source of it. The contract:
 *
 * - Every machine carries tags of ours from the moment that it exists: daemon, pool, instance id. They are how it is found again;
 *   what has none, or other ones, is never touched.
 * - `create` resolves when the machine has an address. It saves what it needs to find its parts *before* it makes them. When it
 *   throws or is aborted it need not clean up: `remove` follows with what was saved last.
 * - `remove` is idempotent, removes everything that was made for the instance, and resolves when it is gone; absent is fine.
 * - `list` answers with all machines of the owner, or throws: never with a part of them.
 * - Calls for different instances run concurrently; for one they never overlap.
 * - Errors say what to do: FleetingdError with EXHAUSTED for quotas (which one, how much), PERMISSION for credentials, INVALID_CONFIG
 *   for what this cloud does not have (image, flavor, network), UNAVAILABLE for what may work later.
 */

import type { Protocol } from "../source.ts";

/** Whose machines they are. */
export interface Owner {
  /** Of this daemon alone, and the same after a restart. */
  daemon: string;
  pool: string;
}

/** What a cloud keeps of a machine besides its tags: JSON, its own business. */
export type MachineData = Readonly<Record<string, unknown>>;

export interface MachineRequest {
  /** The instance's id, `fl-bcd234fgh567`: a valid host name, and never used twice. */
  id: string;
  owner: Owner;
  /** A public key (`ssh-ed25519 AAAA…`) that must be able to log in; undefined where the image has one. */
  authorizedKey: string | undefined;
  save(data: MachineData): Promise<void>;
  phase(name: string): void;
  /** Aborted when the machine is not wanted any more, or takes too long. */
  signal: AbortSignal;
}

export interface MachineAddress {
  address: string;
  /** Default `ssh`. */
  protocol?: Protocol;
  /** Default 22; other protocols have none. */
  port?: number;
  /** Where a login needs one, or may use it. */
  password?: string;
  /** Default: the configured one. */
  username?: string;
  /** Default `linux`. */
  os?: string;
  /** Default `amd64`. */
  arch?: string;
}

export interface StoredMachine {
  id: string;
  owner: Owner;
  /** What was saved last; empty if that was nothing, and for a machine that only `list` knows. */
  data: MachineData;
}

export interface ListedMachine {
  /** The instance id of its tag. */
  id: string;
  /** `gone`: it exists, but will never run a job again: stopped, or failed. */
  state: "starting" | "running" | "gone";
  /** Why it is gone, where that is known. */
  reason?: string;
}

export interface Cloud {
  /** What errors and logs call it: `the Incus server https://rack:8443`. */
  readonly description: string;
  /** What machines are made of today: image, size and the like. Idle machines of another fingerprint are replaced. */
  readonly fingerprint: string;
  create(request: MachineRequest): Promise<MachineAddress>;
  remove(machine: StoredMachine, signal: AbortSignal): Promise<void>;
  list(owner: Owner, signal: AbortSignal): Promise<readonly ListedMachine[]>;
  /** Calls `listener` when something may have changed, so that nobody need wait for the next poll. */
  onChange?(listener: () => void): void;
  /** Looks at what machines are made of (image, network, …), as far as that can be done without making one. @throws what is wrong */
  examine?(signal: AbortSignal): Promise<void>;
  /** Ends connections. Nothing is called after it. */
  close?(): Promise<void>;
}
