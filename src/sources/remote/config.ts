/** What every remote source's configuration has, whatever cloud it is of. */

export interface RemoteConfig {
  /** In each pool that uses it. */
  readonly maxInstances: number;
  readonly maxConcurrentCreates: number;
  readonly maxConcurrentDeletes: number;
  /** How long the server may be silent. */
  readonly requestTimeoutMs: number;
  /** From the first request to the login. */
  readonly createTimeoutMs: number;
  readonly deleteTimeoutMs: number;
  readonly pollIntervalMs: number;
  /** In how many polls in a row a machine must be missing before it counts as lost. */
  readonly missedPolls: number;
  readonly costPerHour: number;
  /** Undefined: what the cloud says, or its own default. */
  readonly username: string | undefined;
  /** Absolute path of a private key that every machine accepts; undefined: a key of its own for each. */
  readonly sshKeyPath: string | undefined;
  /** That key itself, where there is no such file. */
  readonly sshKey?: string | undefined;
}
