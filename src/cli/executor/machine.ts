/**
 * A machine of the custom executor is one instance of a group of its own: `ci/job-4711`. The group's name is all that the
 * stages of a job, which are processes of their own, have in common.
 */

import type { DaemonStatus } from "../../api/status.ts";
import { FleetingdError } from "../../errors.ts";
import {
  type ConnectInfoReply,
  type DaemonClient,
  type Instance,
  InstanceState,
} from "../../gen/fleetingd.ts";
import { callUnary } from "../../host/grpc.ts";
import { sleep } from "../../host/wait.ts";
import type { Logger } from "../../log.ts";
import { DaemonLink } from "../../plugin/daemon-link.ts";
import type { GlobalOptions } from "../context.ts";
import { socketPathOf } from "../daemon-client.ts";

const CALL_TIMEOUT_MS = 20_000;
/** For a daemon that is restarted meanwhile. */
const RESTART_MS = 60_000;
/** For an earlier stage's process to be gone from the daemon's view. */
const HANDOVER_MS = 10_000;
const POLL_MS = 250;

export interface Machine {
  instances(): Promise<Instance[]>;
  /** @returns how many were accepted, and why not more */
  claim(): Promise<{ accepted: number; reason: string }>;
  release(ids: readonly string[]): Promise<void>;
  connectInfo(id: string): Promise<ConnectInfoReply>;
}

/**
 * The pool of that name, or the first one whose image has it.
 * @throws FleetingdError NOT_FOUND
 */
export function poolFor(distro: string | undefined, { pools }: DaemonStatus): string {
  const wanted = distro ?? "default";
  const pool =
    pools.find(({ name }) => name === wanted) ??
    pools.find(({ image }) => distro !== undefined && image === distro) ??
    (distro === undefined && pools.length === 1 ? pools[0] : undefined);
  if (pool !== undefined) return pool.name;
  const known = pools
    .map(({ name, image }) => (image === null ? name : `${name} (image ${image})`))
    .join(", ");
  throw new FleetingdError("NOT_FOUND", `there is no pool and no image ${JSON.stringify(wanted)}.`, {
    hint: `DISTRO, or --distro, names one of: ${known || "none; the daemon has no pools"}.`,
  });
}

/** The pool in which a machine is; undefined if there is no such machine. */
export function poolOfMachine(machine: string, { instances }: DaemonStatus): string | undefined {
  return instances.find(({ pool, group }) => group === `${pool}/${machine}`)?.pool;
}

/**
 * Calls `work` with the machine, which is nobody else's meanwhile.
 * @throws FleetingdError, StatusError
 */
export async function withMachine<T>(
  options: GlobalOptions,
  { pool, machine, logger }: { pool: string; machine: string; logger: Logger },
  work: (machine: Machine) => Promise<T>,
): Promise<T> {
  const socketPath = await socketPathOf(options);
  const pluginConfig = JSON.stringify({ pool, group: machine });
  const link = await attach(
    { socketPath, pluginConfig, logger, startWaitMs: RESTART_MS },
    `${pool}/${machine}`,
  );
  const call = <Reply>(one: (client: DaemonClient, group: string) => Promise<Reply>): Promise<Reply> =>
    link.call(one, RESTART_MS);
  try {
    return await work({
      instances: async () =>
        (
          await call((client, group) =>
            callUnary(client.listInstances.bind(client), { group }, CALL_TIMEOUT_MS),
          )
        ).instances,
      // Not repeated: what was lost on the way may have been done.
      claim: () =>
        link.call((client, group) =>
          callUnary(client.increase.bind(client), { group, n: 1 }, CALL_TIMEOUT_MS),
        ),
      release: async (ids) =>
        void (await call((client, group) =>
          callUnary(client.decrease.bind(client), { group, ids: [...ids] }, CALL_TIMEOUT_MS),
        )),
      connectInfo: (id) =>
        call((client, group) => callUnary(client.connectInfo.bind(client), { group, id }, CALL_TIMEOUT_MS)),
    });
  } finally {
    link.close();
  }
}

/** Two processes with the same group are told apart by a number, but these belong to the same job, one after the other. */
async function attach(
  options: ConstructorParameters<typeof DaemonLink>[0],
  wanted: string,
): Promise<DaemonLink> {
  const deadline = performance.now() + HANDOVER_MS;
  for (;;) {
    const link = new DaemonLink(options);
    const { group } = await link.start();
    if (group === wanted) return link;
    link.close();
    if (performance.now() >= deadline) {
      throw new FleetingdError("UNAVAILABLE", `another process is using the machine ${wanted}.`, {
        hint: "Wait for its end: a machine runs one stage of a job at a time.",
      });
    }
    await sleep(POLL_MS, AbortSignal.timeout(HANDOVER_MS));
  }
}

export function isUsable({ state }: Instance): boolean {
  return state === InstanceState.INSTANCE_RUNNING;
}

export function hasFailed({ state }: Instance): boolean {
  return state === InstanceState.INSTANCE_TIMEOUT;
}

export function isBeingMade({ state }: Instance): boolean {
  return state === InstanceState.INSTANCE_CREATING;
}
