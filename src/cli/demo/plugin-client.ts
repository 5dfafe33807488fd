/** Starts the fleeting plugin exactly as GitLab Runner does, and speaks to it. */
import { createInterface } from "node:readline";
import { finished } from "node:stream/promises";
import { credentials } from "@grpc/grpc-js";
import { FleetingdError } from "../../errors.ts";
import {
  type ConnectInfoResponse,
  type InitResponse,
  InstanceGroupClient,
  type UpdateResponse,
} from "../../gen/fleeting.ts";
import { type ConnInfo, GRPCBrokerClient, GRPCControllerClient } from "../../gen/goplugin.ts";
import { type ChildProcess, exitOf, startChild } from "../../host/child.ts";
import { callUnary } from "../../host/grpc.ts";
import type { LoginTarget } from "../../host/ssh.ts";
import { withTimeout } from "../../host/wait.ts";

export interface PluginClient {
  /** Milliseconds from the start of the process to its handshake line. */
  readonly handshakeMs: number;
  readonly pid: number;
  init(config: unknown): Promise<InitResponse>;
  update(): Promise<UpdateResponse[]>;
  increase(n: number): Promise<number>;
  decrease(instances: string[]): Promise<string[]>;
  connectInfo(instance: string): Promise<ConnectInfoResponse>;
  heartbeat(instance: string): Promise<void>;
  /** Asks the plugin to end, and waits until it has; more than once is fine. */
  close(): Promise<void>;
}

const HANDSHAKE_TIMEOUT_MS = 60_000;
const CALL_TIMEOUT_MS = 60_000;
const EXIT_TIMEOUT_MS = 10_000;
const MAGIC_COOKIE = "4c6410b1-cb78-4962-8c76-ab936d0ea908";

export async function startPlugin(path: string, env: NodeJS.ProcessEnv = {}): Promise<PluginClient> {
  const startedAt = performance.now();
  const child = await startChild(path, [], {
    stdio: ["ignore", "pipe", "pipe"],
    env: {
      ...process.env,
      ...env,
      FLEETING_INSTANCE_GROUP_PLUGIN: MAGIC_COOKIE,
      PLUGIN_PROTOCOL_VERSIONS: "0",
      PLUGIN_MIN_PORT: "10000",
      PLUGIN_MAX_PORT: "25000",
    },
  });
  const exited = exitOf(child);
  void showWarnings(child);
  const address = await withTimeout(handshake(child), HANDSHAKE_TIMEOUT_MS, "the plugin's handshake");
  const handshakeMs = performance.now() - startedAt;
  return clientOf(child, exited, address, handshakeMs);
}

/** What the runner dials. */
export function loginTarget({ InternalAddr, connector }: ConnectInfoResponse): LoginTarget {
  return {
    address: InternalAddr,
    port: Number(connector?.protocolPort ?? 22),
    username: connector?.username ?? "",
    privateKey: Buffer.from(connector?.key ?? []).toString(),
    hostKey: undefined,
  };
}

async function handshake(child: ChildProcess): Promise<string> {
  if (child.stdout === null) throw new FleetingdError("INTERNAL", "the plugin has no standard output");
  for await (const line of createInterface({ input: child.stdout })) {
    const [core, app, network, address, protocol] = line.split("|");
    if (core === "1" && app === "0" && network === "unix" && address && protocol === "grpc") return address;
    throw new FleetingdError("INTERNAL", `the plugin's first line is no handshake: ${line}`);
  }
  throw new FleetingdError("UNAVAILABLE", "the plugin ended before its handshake");
}

function clientOf(
  child: ChildProcess,
  exited: Promise<unknown>,
  address: string,
  handshakeMs: number,
): PluginClient {
  const target = `unix:${address}`;
  const group = new InstanceGroupClient(target, credentials.createInsecure());
  const controller = new GRPCControllerClient(target, credentials.createInsecure());
  const broker = new GRPCBrokerClient(target, credentials.createInsecure());
  // The runner keeps this stream open as long as it lives; the plugin ends with it.
  const stream = broker.startStream();
  stream.on("error", () => undefined);
  stream.on("data", (_: ConnInfo) => undefined);
  const close = async (): Promise<void> => {
    await callUnary(controller.shutdown.bind(controller), {}, EXIT_TIMEOUT_MS);
    stream.end();
    await withTimeout(exited, EXIT_TIMEOUT_MS, "the plugin to end");
    for (const client of [group, controller, broker]) client.close();
  };
  let closing: Promise<void> | undefined;
  return {
    handshakeMs,
    pid: child.pid ?? 0,
    init: (config) =>
      callUnary(
        group.init.bind(group),
        { config: Buffer.from(JSON.stringify(config)), settings: undefined },
        CALL_TIMEOUT_MS,
      ),
    update: async () => {
      const states: UpdateResponse[] = [];
      const stream = group.update({}, { deadline: Date.now() + CALL_TIMEOUT_MS });
      stream.on("data", (state: UpdateResponse) => states.push(state));
      await finished(stream);
      return states;
    },
    increase: async (n) => (await callUnary(group.increase.bind(group), { n }, CALL_TIMEOUT_MS)).succeeded,
    decrease: async (instances) =>
      (await callUnary(group.decrease.bind(group), { instances }, CALL_TIMEOUT_MS)).succeeded,
    connectInfo: (instance) => callUnary(group.connectInfo.bind(group), { instance }, CALL_TIMEOUT_MS),
    heartbeat: async (instance) =>
      void (await callUnary(group.heartbeat.bind(group), { instance }, CALL_TIMEOUT_MS)),
    close: () => {
      closing ??= close();
      return closing;
    },
  };
}

/** Shows a person what the plugin warns of, as the runner would; its log is one JSON object a line. */
async function showWarnings(child: ChildProcess): Promise<void> {
  if (child.stderr === null) return;
  for await (const line of createInterface({ input: child.stderr })) {
    const shown = /"@level":"(warn|error)"/.test(line) || !line.startsWith("{");
    if (shown) process.stderr.write(`${line}\n`);
  }
}
