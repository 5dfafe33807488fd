/** A cloud whose machines are entries in a map: it keeps the contract of `Cloud`, and is held to it by the same conformance suite as the real ones. */
import { setTimeout as delay } from "node:timers/promises";
import { FleetingdError } from "../../src/errors.ts";
import type { Cloud, Owner } from "../../src/sources/remote/cloud.ts";

interface Machine {
  /** Undefined: a stranger's. */
  owner: Owner | undefined;
  address: string;
}

/** The server, which outlives its clients. */
export interface StandInServer {
  readonly machines: Map<string, Machine>;
  /** Answers with this, if anything. */
  failure: FleetingdError | undefined;
  limit: number;
  /** How long a machine takes to come up. */
  bootMs: number;
  /** How many calls it was asked. */
  calls: number;
  connect(): Cloud;
}

export function createStandInServer(): StandInServer {
  let addresses = 0;
  const server: StandInServer = {
    machines: new Map(),
    failure: undefined,
    limit: Number.POSITIVE_INFINITY,
    bootMs: 5,
    calls: 0,
    connect: () => ({
      description: "the stand-in",
      fingerprint: "1",
      async create({ id, owner, save, phase, signal }) {
        await answer();
        await save({ name: id });
        if (server.machines.size >= server.limit) {
          throw new FleetingdError("EXHAUSTED", `the quota of ${server.limit} machines is reached`);
        }
        const address = `192.0.2.${++addresses}`;
        server.machines.set(id, { owner, address });
        phase("boot");
        await delay(server.bootMs, undefined, { signal });
        await answer();
        return { address };
      },
      async remove({ id, owner }) {
        await answer();
        if (isOf(server.machines.get(id), owner)) server.machines.delete(id);
      },
      async list(owner) {
        await answer();
        return [...server.machines]
          .filter(([, machine]) => isOf(machine, owner))
          .map(([id]) => ({ id, state: "running" as const }));
      },
    }),
  };
  const answer = async (): Promise<void> => {
    server.calls++;
    await delay(1);
    if (server.failure !== undefined) throw server.failure;
  };
  return server;
}

function isOf(machine: Machine | undefined, owner: Owner): boolean {
  return machine?.owner?.daemon === owner.daemon && machine.owner.pool === owner.pool;
}
