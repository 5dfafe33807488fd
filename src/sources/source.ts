/**
 * What makes instances. The contract, for the local host as for the clouds:
 *
 * - `create` resolves when an SSH login has worked and the machine is ready for a job. It calls `save` with
 *   all that it will need to find and delete the instance again *before* the side effect that makes it
 *   necessary. When it throws or is aborted, `delete` is still owed and will be called with the last saved data.
 * - `delete` is idempotent, removes everything of the instance, and resolves when it is gone; absent is fine.
 * - Calls for different instances run concurrently; for one instance they never overlap, but `delete`
 *   may follow an aborted `create`.
 * - `resume` is called once for every stored instance, before any `create`: it reserves what the instance holds, and
 *   says whether its machine still lives, which it then takes over.
 */

/** How to reach an instance. */
export interface ConnectInfo {
  os: string;
  arch: string;
  protocol: "ssh";
  username: string;
  /** OpenSSH private key, PEM. */
  privateKey: string;
  address: string;
  port: number;
}

/** What a source keeps of an instance, in the instance's record: JSON, its own business. */
export type SourceData = Readonly<Record<string, unknown>>;

export interface CreateContext {
  id: string;
  /** The instance's own folder: it exists, and is removed together with the record after `delete`. */
  directory: string;
  save(data: SourceData): Promise<void>;
  /** Names the phase that begins (`clone`, `boot`, …) for logs and timings. */
  phase(name: string): void;
  signal: AbortSignal;
}

export interface CreatedInstance {
  connectInfo: ConnectInfo;
}

export interface StoredInstance {
  id: string;
  directory: string;
  data: SourceData;
}

export interface Source {
  readonly name: string;
  create(context: CreateContext): Promise<CreatedInstance>;
  delete(instance: StoredInstance, signal: AbortSignal): Promise<void>;
  resume(instance: StoredInstance): Promise<boolean>;
  /** Calls `listener` when an instance ended by itself (its machine crashed, was powered off, or vanished). */
  onLost(listener: (id: string, reason: string) => void): void;
}
