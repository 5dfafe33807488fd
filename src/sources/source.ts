/**
 * What makes instances. The contract, for the local host as for the clouds:
 *
 * - `create` resolves when an SSH login has worked and the machine is ready for a job. It calls `save` with
 *   all that it will need to find and delete the instance again *before* the side effect that makes it
 *   necessary. When it throws or is aborted, `delete` is still owed and will be called with the last saved data.
 * - `delete` is idempotent, removes everything of the instance, and resolves when it is gone; absent is fine.
 * - Calls for different instances run concurrently; for one instance they never overlap, but `delete`
 *   may follow an aborted `create`.
 * - `rest` and `wake` are only asked of ready instances, `rest` of idle ones only; either may be asked again of the next daemon.
 * - `resume` is called once for every stored instance, before any `create`: it reserves what the instance holds, and
 *   says whether its machine still lives, which it then takes over. When it throws, that is not known; `delete` works all the same.
 */

/** By what a runner connects: SSH, or Windows' own remote management. */
export const PROTOCOLS = ["ssh", "winrm", "winrm+https"] as const;
export type Protocol = (typeof PROTOCOLS)[number];

/** How to reach an instance. */
export interface ConnectInfo {
  os: string;
  arch: string;
  protocol: Protocol;
  username: string;
  /** Set where there is one; a key is preferred by whoever connects by SSH. */
  password?: string | undefined;
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
  /** Tells that from here on the instance is made in a slower way than its source would like: in which one (`boot`, …), and why. */
  fellBack(to: string, reason: string): void;
  /** Ids of the pool's instances that nobody has claimed: the warm ones, and those that are to be. */
  unclaimed?(): readonly string[];
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

/** An instance that is ready. */
export interface CheckedInstance {
  id: string;
  connectInfo: ConnectInfo;
  data: SourceData;
  /** It serves a job, or may: nothing in it is to be disturbed or trusted. */
  isClaimed: boolean;
}

export interface CheckOptions {
  /** How long it may take to answer. */
  answerMs: number;
  /** Ends the check when nobody wants to know any more, as when an idle instance is claimed. */
  signal: AbortSignal;
}

/** How many more instances a source can bear. */
export interface Room {
  vms: number;
  /** What stands against more. */
  reason: string;
  /** The same in one word, one of few: rejections are counted by it. */
  limit?: string;
  /** Something of the host itself has run short: to end instances might make no room for others. */
  isScarce?: boolean;
}

/** Another source's business is nobody else's: data that names its source belongs to that one, all other to the local host. */
export function sourceOf(data: SourceData): string {
  return typeof data["source"] === "string" ? data["source"] : LOCAL;
}
/** The name of the source that is always there: this host. */
export const LOCAL = "local";

/** How a source does, for people. */
export interface SourceStatus {
  name: string;
  /** `local`, `incus`, … */
  type: string;
  /** `failing`: nothing is made there at the moment. `full`: it works, and has no room. */
  state: "ok" | "full" | "failing";
  /** Why it is not ok; undefined if it is. */
  problem: string | undefined;
  /** How long until a failing one is tried again, in milliseconds; 0 otherwise. */
  retryInMs: number;
  /** What it has of this pool's, those that begin or end included. */
  instances: number;
  maxInstances: number | undefined;
  /** In whatever currency the configuration thinks; 0 for this host. */
  costPerHour: number;
}

export interface Source {
  readonly name: string;
  create(context: CreateContext): Promise<CreatedInstance>;
  delete(instance: StoredInstance, signal: AbortSignal): Promise<void>;
  resume(instance: StoredInstance): Promise<boolean>;
  /** Besides those whose `create` has begun and whose `delete` has not ended. A source without it has no bound. */
  room?(): Promise<Room>;
  /**
   * Looks at an instance that is ready, now and then.
   * @returns why jobs on it will fail, or undefined
   * @throws the reason why it does not answer
   */
  check?(instance: CheckedInstance, options: CheckOptions): Promise<string | undefined>;
  /** Whether an idle instance is to rest. It answers at once. A source without it lets none rest. */
  rests?(data: SourceData): boolean;
  /** Lets an idle instance rest: it takes no CPU, and as little memory as possible. Of one that rests it changes nothing. */
  rest?(instance: StoredInstance, signal: AbortSignal): Promise<void>;
  /**
   * Lets an instance that rests, or that `rest` has failed for, serve jobs: resolves when a login has worked and its clock is right.
   * Of one that is awake it changes nothing.
   */
  wake?(instance: Omit<CheckedInstance, "isClaimed">, signal: AbortSignal): Promise<void>;
  /** Calls `listener` when an instance ended by itself (its machine crashed, was powered off, or vanished). */
  onLost(listener: (id: string, reason: string) => void): void;
  /** Calls `listener` when an instance lives on, but jobs on it will fail. */
  onTrouble?(listener: (id: string, reason: string) => void): void;
  /**
   * Whether an instance would be made of something newer today; idle ones are then replaced. It answers at once, and of a
   * new instance never yes. A source without it never replaces any.
   */
  isOutdated?(data: SourceData): boolean;
  /**
   * Called once, when every stored instance was resumed: it may begin to look after them.
   * @param options.sweep What carries our tags and was not resumed is nobody's and may be removed: not so if a record
   *   could not be read.
   */
  open?(options: { sweep: boolean }): void;
  /** Ends what `open` began; instances live on. */
  close?(): Promise<void>;
  /** How it does, or how its parts do. It answers at once. */
  status?(): readonly SourceStatus[];
  /** Of two idle instances the one that ranks higher is ended first and given out last. Default 0. */
  rank?(data: SourceData): number;
}
