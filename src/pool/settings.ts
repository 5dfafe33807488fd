/** What of a pool may change while it works. */
export interface PoolSettings {
  warmInstances: number;
  maxInstances: number;
  /** How long an instance may wait for a job; 0: for ever. */
  maxIdleAgeMs: number;
  /** How long an instance may not answer; 0: none is asked. */
  heartbeatTimeoutMs: number;
}
