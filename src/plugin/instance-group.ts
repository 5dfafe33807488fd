/** The fleeting service, translated to the daemon's: nothing is kept here but the link and the host's settings. */
import { status as Status } from "@grpc/grpc-js";
import {
  type ConnectorConfig,
  type InitRequest,
  type InitResponse,
  type InstanceGroupServer,
  State,
  type UpdateResponse,
} from "../gen/fleeting.ts";
import { type Instance, InstanceState } from "../gen/fleetingd.ts";
import { callUnary } from "../host/grpc.ts";
import type { Logger } from "../log.ts";
import { VERSION } from "../version.ts";
import { connectInfo } from "./connector.ts";
import { DaemonLink } from "./daemon-link.ts";
import { daemonSocket, withRunnersLogin } from "./plugin-config.ts";
import { StatusError, toStatusError, unary } from "./status-error.ts";

const CALL_TIMEOUT_MS = 15_000;
const START_WAIT_MS = 10_000;
// The host asks once and removes the instance when that fails: worth waiting for a daemon that restarts.
const CONNECT_INFO_WAIT_MS = 30_000;
const HEARTBEAT_WAIT_MS = 5_000;

const STATES: Readonly<Record<InstanceState, State>> = {
  [InstanceState.INSTANCE_CREATING]: State.CREATING,
  [InstanceState.INSTANCE_RUNNING]: State.RUNNING,
  [InstanceState.INSTANCE_DELETING]: State.DELETING,
  [InstanceState.INSTANCE_TIMEOUT]: State.TIMEOUT,
  // From a newer daemon: the host neither uses nor removes an instance that is being created.
  [InstanceState.UNRECOGNIZED]: State.CREATING,
};

export interface InstanceGroup {
  readonly service: InstanceGroupServer;
  /** Lets go of the daemon; deletes nothing. */
  close(): void;
}

export function createInstanceGroup(env: NodeJS.ProcessEnv, logger: Logger): InstanceGroup {
  let link: DaemonLink | undefined;
  let settings: ConnectorConfig | undefined;

  const daemon = (): DaemonLink => {
    if (link !== undefined) return link;
    throw new StatusError(
      Status.FAILED_PRECONDITION,
      "the plugin has not been initialized: Init comes first",
    );
  };
  const init = async (request: InitRequest): Promise<InitResponse> => {
    const given = request.config.toString("utf8");
    const socketPath = daemonSocket(given, env);
    settings = request.settings?.connectorConfig;
    const pluginConfig = withRunnersLogin(given, settings);
    link?.close();
    const fresh = new DaemonLink({ socketPath, pluginConfig, logger, startWaitMs: START_WAIT_MS });
    link = fresh;
    const { group, pool, maxSize, version } = await fresh.start();
    logger.info("attached to the fleetingd daemon", { group, pool, maxSize, daemonVersion: version });
    if (version !== VERSION) {
      logger.warn("plugin and daemon have different versions; restart both after an update", {
        pluginVersion: VERSION,
        daemonVersion: version,
      });
    }
    const buildInfo = `fleetingd daemon ${version}, Node ${process.version}`;
    return { id: group, maxSize, version: VERSION, buildInfo, capabilities: [] };
  };
  const list = async (): Promise<UpdateResponse[]> => {
    const { instances } = await daemon().call((client, group) =>
      callUnary(client.listInstances.bind(client), { group }, CALL_TIMEOUT_MS),
    );
    for (const instance of instances) logFailure(instance, logger);
    return instances.map(({ id, state }) => ({ instance: id, state: STATES[state] }));
  };
  const service: InstanceGroupServer = {
    init: unary(init),
    update: (call) => {
      list().then(
        (updates) => {
          for (const update of updates) call.write(update);
          call.end();
        },
        (error: unknown) => call.emit("error", toStatusError(error)),
      );
    },
    increase: unary(async ({ n }) => ({ succeeded: n === 0 ? 0 : await increase(daemon(), n, logger) })),
    decrease: unary(async ({ instances }) => ({ succeeded: await decrease(daemon(), instances, logger) })),
    connectInfo: unary(async ({ instance }) => {
      const info = await daemon().call(
        (client, group) =>
          callUnary(client.connectInfo.bind(client), { group, id: instance }, CALL_TIMEOUT_MS),
        CONNECT_INFO_WAIT_MS,
      );
      return connectInfo(info, settings);
    }),
    heartbeat: unary(async ({ instance }) => {
      await daemon().call(
        (client, group) => callUnary(client.heartbeat.bind(client), { group, id: instance }, CALL_TIMEOUT_MS),
        HEARTBEAT_WAIT_MS,
      );
      return {};
    }),
    shutdown: unary(async () => ({})),
  };
  return { service, close: () => link?.close() };
}

async function increase(link: DaemonLink, n: number, logger: Logger): Promise<number> {
  const { accepted, reason } = await link.call((client, group) =>
    callUnary(client.increase.bind(client), { group, n }, CALL_TIMEOUT_MS),
  );
  // An error would lose the number that was accepted.
  if (accepted < n)
    logger.warn("the daemon accepted fewer instances than asked for", { n, accepted, reason });
  else if (reason !== "") logger.warn("what the daemon accepted has to wait", { n, accepted, reason });
  return Math.min(accepted, n);
}

async function decrease(link: DaemonLink, asked: string[], logger: Logger): Promise<string[]> {
  if (asked.length === 0) return [];
  const reply = await link.call((client, group) =>
    callUnary(client.decrease.bind(client), { group, ids: asked }, CALL_TIMEOUT_MS),
  );
  const done = new Set(reply.ids);
  // Only what was asked for: the host crashes on an id that it does not know.
  const succeeded = asked.filter((id) => done.has(id));
  const rest = asked.filter((id) => !done.has(id));
  if (rest.length > 0)
    logger.warn("the daemon could not delete some instances", { instances: rest.join(" ") });
  return succeeded;
}

function logFailure(instance: Instance, logger: Logger): void {
  if (instance.state !== InstanceState.INSTANCE_TIMEOUT) return;
  logger.error("an instance did not start", { instance: instance.id, reason: instance.lastError });
}
