/** The conformance suite itself, on the stand-in: so the suite is known to pass where the contract is kept. */
import { FleetingdError } from "../../../src/errors.ts";
import { createStandInServer } from "../../helpers/stand-in-cloud.ts";
import { describeCloud } from "../../sources/conformance.ts";

const server = createStandInServer();
const failWith = (error: FleetingdError | undefined) => async (): Promise<void> => {
  server.failure = error;
};
const work = failWith(undefined);

describeCloud({
  name: "stand-in",
  open: async () => server.connect(),
  config: {
    maxInstances: 100,
    maxConcurrentCreates: 8,
    maxConcurrentDeletes: 8,
    requestTimeoutMs: 1_000,
    createTimeoutMs: 5_000,
    deleteTimeoutMs: 5_000,
    pollIntervalMs: 10,
    missedPolls: 2,
    costPerHour: 0,
    username: undefined,
    sshKeyPath: undefined,
  },
  machines: async ({ daemon, pool }) =>
    [...server.machines]
      .filter(([, { owner }]) => owner?.daemon === daemon && owner.pool === pool)
      .map(([id]) => id),
  removeBehindOurBack: async (id) => void server.machines.delete(id),
  makeStranger: async () => {
    server.machines.set("stranger", { owner: undefined, address: "192.0.2.250" });
    return {
      exists: async () => server.machines.has("stranger"),
      remove: async () => void server.machines.delete("stranger"),
    };
  },
  stopServer: failWith(new FleetingdError("UNAVAILABLE", "the stand-in is stopped")),
  startServer: work,
  revokeCredentials: async () => {
    await failWith(new FleetingdError("PERMISSION", "the credentials were revoked"))();
    return work;
  },
  limit: async (machines) => {
    server.limit = server.machines.size + machines;
    return async () => {
      server.limit = Number.POSITIVE_INFINITY;
    };
  },
  limitSaid: /quota of \d+ machines/,
  logsIn: false,
  burst: 50,
  patienceMs: 10_000,
});
