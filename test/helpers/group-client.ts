/** A plugin's side of the daemon's interface, without the plugin: for tests that restart the daemon again and again. */
import { once } from "node:events";
import {
  type AttachReply,
  type ConnectInfoReply,
  type DaemonClient,
  type Instance,
  InstanceState,
} from "../../src/gen/fleetingd.ts";
import { callUnary } from "../../src/host/grpc.ts";
import { type Login, waitForLogin } from "../../src/host/ssh.ts";

const TIMEOUT_MS = 60_000;
const LOGIN_TIMEOUT_MS = 60_000;

export interface GroupClient {
  readonly name: string;
  list(): Promise<Instance[]>;
  /** Ids of those that can be used. */
  running(): Promise<string[]>;
  increase(n: number): Promise<number>;
  decrease(ids: readonly string[]): Promise<void>;
  connectInfo(id: string): Promise<ConnectInfoReply>;
  /** As a runner does, with what `connectInfo` says. */
  logIn(id: string): Promise<Login>;
  detach(): void;
}

export async function attachGroup(
  client: DaemonClient,
  pluginConfig: Readonly<Record<string, unknown>>,
): Promise<GroupClient> {
  const stream = client.attach({ pluginConfig: JSON.stringify(pluginConfig), group: "" });
  const [{ group }] = (await once(stream, "data")) as [AttachReply];
  // It ends with the daemon, and however that ends.
  stream.on("error", () => undefined);
  const list = async (): Promise<Instance[]> =>
    (await callUnary(client.listInstances.bind(client), { group }, TIMEOUT_MS)).instances;
  const connectInfo = (id: string): Promise<ConnectInfoReply> =>
    callUnary(client.connectInfo.bind(client), { group, id }, TIMEOUT_MS);
  return {
    name: group,
    list,
    running: async () =>
      (await list()).filter(({ state }) => state === InstanceState.INSTANCE_RUNNING).map(({ id }) => id),
    increase: async (n) => (await callUnary(client.increase.bind(client), { group, n }, TIMEOUT_MS)).accepted,
    decrease: async (ids) =>
      void (await callUnary(client.decrease.bind(client), { group, ids: [...ids] }, TIMEOUT_MS)),
    connectInfo,
    async logIn(id) {
      const { internalAddress, port, username, key } = await connectInfo(id);
      const privateKey = Buffer.from(key).toString();
      const target = { address: internalAddress, port, username, privateKey, hostKey: undefined };
      const options = { timeoutMs: LOGIN_TIMEOUT_MS, signal: AbortSignal.timeout(LOGIN_TIMEOUT_MS) };
      return waitForLogin(target, options);
    },
    detach: () => stream.cancel(),
  };
}
