/** A go-plugin host as GitLab Runner is one: starts the installed plugin, and speaks to it over its socket. */
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { finished } from "node:stream/promises";
import { fileURLToPath } from "node:url";
import {
  type ChannelCredentials,
  type ClientDuplexStream,
  type ClientReadableStream,
  credentials,
  type ServiceError,
  status as Status,
} from "@grpc/grpc-js";
import {
  type InitResponse,
  InstanceGroupClient,
  type Settings,
  type UpdateResponse,
} from "../../../src/gen/fleeting.ts";
import {
  type ConnInfo,
  GRPCBrokerClient,
  GRPCControllerClient,
  GRPCStdioClient,
  type StdioData,
} from "../../../src/gen/goplugin.ts";
import { HealthClient } from "../../../src/gen/health.ts";
import { callUnary } from "../../../src/host/grpc.ts";
import { waitFor, withTimeout } from "../../../src/host/wait.ts";

export const PLUGIN = fileURLToPath(new URL("../../../bin/fleeting-plugin-fleetingd", import.meta.url));
const TIMEOUT_MS = 60_000;

/** What GitLab Runner sets; nothing else of the tests' own environment reaches the plugin but PATH and the Node to use. */
export const HOST_ENV: Readonly<Record<string, string>> = {
  PATH: process.env["PATH"] ?? "",
  FLEETINGD_NODE: process.env["FLEETINGD_TEST_NODE"] ?? process.env["FLEETINGD_NODE"] ?? process.execPath,
  FLEETING_INSTANCE_GROUP_PLUGIN: "4c6410b1-cb78-4962-8c76-ab936d0ea908",
  PLUGIN_PROTOCOL_VERSIONS: "0",
  PLUGIN_MIN_PORT: "10000",
  PLUGIN_MAX_PORT: "25000",
};

export interface Output {
  code: number | null;
  stdout: string;
  stderr: string;
}

/** Runs the plugin to its end, as a person does. */
export async function runByHand(args: string[], env: Record<string, string> = {}): Promise<Output> {
  const { PATH, FLEETINGD_NODE } = HOST_ENV;
  const child = spawn(PLUGIN, args, {
    stdio: ["ignore", "pipe", "pipe"],
    env: { PATH, FLEETINGD_NODE, ...env },
    timeout: TIMEOUT_MS,
  });
  const output = { stdout: "", stderr: "" };
  child.stdout.setEncoding("utf8").on("data", (text: string) => (output.stdout += text));
  child.stderr.setEncoding("utf8").on("data", (text: string) => (output.stderr += text));
  const [code] = (await once(child, "close")) as [number | null];
  return { code, ...output };
}

export interface HostOptions {
  env?: Record<string, string>;
  /** A program that starts the plugin, with its arguments. */
  through?: string[];
  /** How to connect, from the handshake line's parts; in the clear if not given. */
  credentials?: (handshake: readonly string[]) => ChannelCredentials;
}

export class Host {
  readonly child: ChildProcess;
  /** The parts of the handshake line. */
  readonly handshake: string[];
  readonly socketPath: string;
  /** Lines of standard output after the handshake, and of standard error. */
  readonly stdout: string[];
  readonly stderr: string[];
  readonly exited: Promise<number | null>;
  readonly group: InstanceGroupClient;
  readonly controller: GRPCControllerClient;
  readonly health: HealthClient;
  readonly stdio: ClientReadableStream<StdioData>;
  readonly broker: ClientDuplexStream<ConnInfo, ConnInfo>;
  readonly #clients: { close(): void }[];

  private constructor(
    started: Pick<Host, "child" | "exited" | "stdout" | "stderr">,
    handshake: string[],
    channelCredentials: ChannelCredentials,
  ) {
    this.child = started.child;
    this.exited = started.exited;
    this.stdout = started.stdout;
    this.stderr = started.stderr;
    this.handshake = handshake;
    this.socketPath = handshake[3] ?? "";
    const target = `unix:${this.socketPath}`;
    // Equal options: all share one connection, as a Go host's do.
    const options = { "grpc.default_authority": "localhost" };
    this.group = new InstanceGroupClient(target, channelCredentials, options);
    this.controller = new GRPCControllerClient(target, channelCredentials, options);
    this.health = new HealthClient(target, channelCredentials, options);
    const brokerClient = new GRPCBrokerClient(target, channelCredentials, options);
    const stdioClient = new GRPCStdioClient(target, channelCredentials, options);
    this.#clients = [this.group, this.controller, this.health, brokerClient, stdioClient];
    this.broker = brokerClient.startStream();
    this.stdio = stdioClient.streamStdio({});
    // Both end with an error when the plugin ends or the test hangs up.
    for (const stream of [this.broker, this.stdio]) stream.on("error", () => undefined).resume();
  }

  static async start(options: HostOptions = {}): Promise<Host> {
    const [program = PLUGIN, ...args] = [...(options.through ?? []), PLUGIN];
    const child = spawn(program, args, {
      stdio: ["ignore", "pipe", "pipe"],
      env: { ...HOST_ENV, ...options.env },
    });
    const exited = once(child, "exit").then(([code]) => code as number | null);
    const stdout: string[] = [];
    const stderr: string[] = [];
    createInterface({ input: child.stdout }).on("line", (line) => stdout.push(line));
    createInterface({ input: child.stderr }).on("line", (line) => stderr.push(line));
    try {
      const line = await waitFor(async () => stdout.shift(), {
        timeoutMs: TIMEOUT_MS,
        intervalMs: 5,
        what: "the handshake line",
      });
      const handshake = line.split("|");
      const channelCredentials = options.credentials?.(handshake) ?? credentials.createInsecure();
      return new Host({ child, exited, stdout, stderr }, handshake, channelCredentials);
    } catch (error) {
      child.kill("SIGKILL");
      throw new Error(`${String(error)}: ${stderr.join("\n")}`);
    }
  }

  /** Resolves when the plugin has accepted the broker stream: from then on it must not end by itself. */
  async connected(): Promise<void> {
    await callUnary(this.health.check.bind(this.health), { service: "plugin" }, TIMEOUT_MS);
  }

  init(config: unknown, settings?: Settings): Promise<InitResponse> {
    const request = { config: Buffer.from(JSON.stringify(config)), settings };
    return callUnary(this.group.init.bind(this.group), request, TIMEOUT_MS);
  }

  async update(): Promise<UpdateResponse[]> {
    const stream = this.group.update({}, { deadline: Date.now() + TIMEOUT_MS });
    const states: UpdateResponse[] = [];
    stream.on("data", (state: UpdateResponse) => states.push(state));
    await finished(stream);
    return states;
  }

  /** The id and state of each instance, once `accept` is content with them. */
  async updateUntil(accept: (states: UpdateResponse[]) => boolean): Promise<UpdateResponse[]> {
    return waitFor(
      async () => {
        const states = await this.update();
        return accept(states) ? states : undefined;
      },
      { timeoutMs: TIMEOUT_MS, intervalMs: 20, what: "the states that the test expects" },
    );
  }

  /** The next answer of Update that is none of "unavailable". */
  updateUntilAvailable(): Promise<UpdateResponse[]> {
    return waitFor(
      async () => {
        try {
          return await this.update();
        } catch (error) {
          if ((error as ServiceError).code === Status.UNAVAILABLE) return undefined;
          throw error;
        }
      },
      { timeoutMs: TIMEOUT_MS, intervalMs: 20, what: "the plugin to reach the daemon again" },
    );
  }

  async increase(n: number): Promise<number> {
    return (await callUnary(this.group.increase.bind(this.group), { n }, TIMEOUT_MS)).succeeded;
  }

  async decrease(...instances: string[]): Promise<string[]> {
    return (await callUnary(this.group.decrease.bind(this.group), { instances }, TIMEOUT_MS)).succeeded;
  }

  connectInfo(instance: string) {
    return callUnary(this.group.connectInfo.bind(this.group), { instance }, TIMEOUT_MS);
  }

  async heartbeat(instance: string): Promise<void> {
    await callUnary(this.group.heartbeat.bind(this.group), { instance }, TIMEOUT_MS);
  }

  /** As GitLab Runner does before it waits for the plugin's end. */
  async shutdown(): Promise<void> {
    await callUnary(this.controller.shutdown.bind(this.controller), {}, TIMEOUT_MS);
  }

  /** Resolves with the exit code of a plugin that is to end by itself. */
  async end(): Promise<number | null> {
    return withTimeout(this.exited, TIMEOUT_MS, "the plugin to end by itself");
  }

  /** Hangs up and makes sure that the plugin is gone, however the test ended. */
  async close(): Promise<void> {
    this.hangUp();
    // For one that was never connected to; any other ignores it and ends because its host has gone.
    this.child.kill("SIGTERM");
    try {
      await this.end();
    } finally {
      this.child.kill("SIGKILL");
    }
  }

  /** Closes every connection at once, as the death of the host does. */
  hangUp(): void {
    this.broker.cancel();
    this.stdio.cancel();
    for (const client of this.#clients) client.close();
  }

  /** The plugin's log; fails on a line that GitLab Runner can't parse. */
  log(): Record<string, unknown>[] {
    return this.stderr.map((line) => {
      assert.ok(line.length < 64 * 1024, "a line of 64 KiB or more is demoted");
      const entry = JSON.parse(line) as Record<string, unknown>;
      assert.equal(typeof entry["@level"], "string", `@level must be a string: ${line}`);
      assert.equal(typeof entry["@message"], "string", `@message must be a string: ${line}`);
      assert.ok(!("@timestamp" in entry) || /\.\d{6}Z$/.test(String(entry["@timestamp"])), line);
      return entry;
    });
  }

  /** Waits until a line of the log matches. */
  async logged(pattern: RegExp): Promise<Record<string, unknown>> {
    return waitFor(async () => this.log().find((entry) => pattern.test(String(entry["@message"]))), {
      timeoutMs: TIMEOUT_MS,
      intervalMs: 20,
      what: `a log line that matches ${pattern}`,
    });
  }
}

/** For assert.rejects: a gRPC error with this status, whose sentence matches. */
export function grpcError(code: number, details: RegExp): (error: unknown) => true {
  return (error) => {
    const failure = error as ServiceError;
    assert.equal(failure.code, code, String(error));
    assert.match(failure.details, details);
    return true;
  };
}
