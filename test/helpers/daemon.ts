/** A real daemon and real plugins, as processes of the built program, in the test's own namespaces. */
import { type ChildProcess, spawn } from "node:child_process";
import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { openSync, readSync } from "node:fs";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { credentials } from "@grpc/grpc-js";
import type { DaemonStatus, PoolSourceStatus } from "../../src/api/status.ts";
import { loginTarget, type PluginClient, startPlugin } from "../../src/cli/demo/plugin-client.ts";
import { systemErrorCode } from "../../src/errors.ts";
import { type ConnectInfoResponse, State } from "../../src/gen/fleeting.ts";
import { DaemonClient, type PrebuildProgress } from "../../src/gen/fleetingd.ts";
import { callUnary } from "../../src/host/grpc.ts";
import { type Login, waitForLogin } from "../../src/host/ssh.ts";
import { connectUnixSocket } from "../../src/host/unix-socket.ts";
import { waitFor } from "../../src/host/wait.ts";

export const ROOT = fileURLToPath(new URL("../..", import.meta.url));
export const FLEETINGD = join(ROOT, "bin", "fleetingd");
export const PLUGIN = join(ROOT, "bin", "fleeting-plugin-fleetingd");
/** Images are kept here from one run to the next: to build them takes minutes under emulation. */
export const IMAGES = process.env["FLEETINGD_TEST_IMAGES"] ?? join(ROOT, ".cache", "images");

// Where tests have failed: nothing else is left of a daemon by then.
const daemonLogs: (() => string)[] = [];
process.once("exit", () => {
  if (!process.exitCode) return;
  for (const log of daemonLogs) {
    const bad = log()
      .split("\n")
      .filter((line) => / (warn|error) /.test(line))
      .slice(-MOST_LINES_TOLD);
    process.stdout.write(`a daemon of these tests said:\n${bad.join("\n")}\n`);
  }
});

export interface TestDaemon {
  readonly directory: string;
  readonly socket: string;
  readonly client: DaemonClient;
  readonly process: ChildProcess;
  /** What it has logged so far. */
  log(): string;
  status(): Promise<DaemonStatus>;
  /** A source of its only pool. */
  source(name: string): Promise<PoolSourceStatus>;
  /** Builds the pool's golden image; answers its name. */
  prebuild(pool: string, force?: boolean): Promise<string>;
  /** Waits until so many unclaimed VMs are ready. */
  untilWarm(pool: string, count: number): Promise<void>;
  attach(pluginConfig: Record<string, unknown>): Promise<PluginClient>;
  /** Starts the next daemon on the same folder and configuration; this one must have ended. */
  restart(): Promise<TestDaemon>;
  /** Ends it and removes every VM; true if it ended with code 0. */
  stop(): Promise<boolean>;
}

export interface TestDaemonOptions {
  /** TOML of the pools and images. */
  pools: string;
  /** Reuses an earlier daemon's folder and its records. */
  directory?: string;
  /** VMs outlive the daemon. */
  keepVms?: boolean;
  /** The folder is the caller's to remove. */
  keepDirectory?: boolean;
  /** Keys of `[images.default]`; Debian from its packages if not given. */
  image?: Readonly<Record<string, unknown>>;
  /** More keys of `[daemon]`. */
  settings?: Readonly<Record<string, unknown>>;
  /** More of its environment. */
  env?: Readonly<Record<string, string>>;
}

const START_TIMEOUT_MS = 60_000;
const VM_TIMEOUT_MS = 15 * 60_000;
const MOST_LINES_TOLD = 60;
const PREBUILD_TIMEOUT_MS = 30 * 60_000;

/** A pool of small VMs, as TOML; `more` is added to it. */
export function poolToml(name: string, more: Readonly<Record<string, unknown>> = {}): string {
  const keys = {
    vm_disk_directory: IMAGES,
    vm_num_cpu_cores: 1,
    vm_memory_mb: 512,
    vm_disk_size_gb: 4,
    warm_instances: 0,
    max_instances: 8,
    // The images in the cache may be of any age.
    prebuild_interval: "0s",
    // Beside other tests on a small machine a boot or a reboot may take many times as long.
    boot_timeout: "15m",
    heartbeat_timeout: "15m",
    ...more,
  };
  return tableToml(`pools.${name}`, keys);
}

export function tableToml(name: string, keys: Readonly<Record<string, unknown>>): string {
  const lines = Object.entries(keys).map(([key, value]) => `${key} = ${JSON.stringify(value)}`);
  return `[${name}]\n${lines.join("\n")}\n`;
}

/** Logs in as the runner does. */
export function logIn(info: ConnectInfoResponse, timeoutMs = VM_TIMEOUT_MS): Promise<Login> {
  return waitForLogin(loginTarget(info), { timeoutMs, signal: AbortSignal.timeout(timeoutMs + 10_000) });
}

/** Ids of the instances that the runner may use. */
export async function runningOf(plugin: PluginClient): Promise<string[]> {
  return (await plugin.update())
    .filter(({ state }) => state === State.RUNNING)
    .map(({ instance }) => instance);
}

export async function startTestDaemon(options: TestDaemonOptions): Promise<TestDaemon> {
  const directory = options.directory ?? (await mkdtemp(join(tmpdir(), "fleetingd-")));
  const socket = join(directory, "daemon.sock");
  const configPath = join(directory, "config.toml");
  await mkdir(IMAGES, { recursive: true });
  const settings = { state_directory: directory, log_level: "debug", images_gc_interval: "0s", socket };
  const config = [
    tableToml("daemon", { ...settings, ...options.settings }),
    tableToml("images.default", options.image ?? { type: "debian-packages" }),
    options.pools,
  ];
  await writeFile(configPath, config.join(""), { mode: 0o600 });
  const flags = options.keepVms ? [] : ["--ephemeral"];
  const output = await openOutput();
  const child = spawn(FLEETINGD, ["--config", configPath, "serve", ...flags], {
    stdio: ["ignore", output.fd, output.fd],
    env: { ...process.env, ...options.env },
  });
  const log = (): string => output.read();
  daemonLogs.push(log);
  await waitFor(
    async () => {
      if (child.exitCode !== null || child.signalCode !== null)
        throw new Error(`the daemon ended (${child.exitCode ?? child.signalCode}):\n${log()}`);
      return (await answers(socket)) ? true : undefined;
    },
    { timeoutMs: START_TIMEOUT_MS, intervalMs: 10, what: "the daemon's socket" },
  );
  // Not before: after a connection that fails, gRPC pauses for a second.
  const client = new DaemonClient(`unix:${socket}`, credentials.createInsecure());

  const status = async (): Promise<DaemonStatus> =>
    JSON.parse((await callUnary(client.status.bind(client), {}, 10_000)).json) as DaemonStatus;
  const plugins: PluginClient[] = [];
  return {
    directory,
    socket,
    client,
    process: child,
    log,
    status,
    async source(name) {
      const found = (await status()).pools[0]?.sources.find((source) => source.name === name);
      if (found === undefined) throw new Error(`there is no source ${name}`);
      return found;
    },
    async prebuild(pool, force = false) {
      const stream = client.prebuild({ pool, force }, { deadline: Date.now() + PREBUILD_TIMEOUT_MS });
      let goldenImage = "";
      stream.on("data", (progress: PrebuildProgress) => {
        if (progress.goldenImage !== "") goldenImage = progress.goldenImage;
      });
      await once(stream, "end");
      return goldenImage;
    },
    async untilWarm(pool, count) {
      await waitFor(
        async () => {
          const found = (await status()).pools.find(({ name }) => name === pool);
          if (found?.lastError) throw new Error(`${found.lastError}\n${log()}`);
          return found && found.warm.actual >= count ? true : undefined;
        },
        { timeoutMs: VM_TIMEOUT_MS, intervalMs: 50, what: `${count} warm VMs in ${pool}` },
      );
    },
    async attach(pluginConfig) {
      const plugin = await startPlugin(PLUGIN);
      plugins.push(plugin);
      await plugin.init({ ...pluginConfig, socket });
      return plugin;
    },
    restart: () => startTestDaemon({ ...options, directory }),
    async stop() {
      for (const plugin of plugins) await plugin.close();
      client.close();
      if (child.exitCode === null && child.signalCode === null) {
        const exited = once(child, "exit");
        child.kill("SIGTERM");
        await exited;
      }
      if (!options.keepVms && !options.keepDirectory) await rm(directory, { recursive: true, force: true });
      return child.exitCode === 0;
    },
  };
}

/**
 * Where a process writes to. A pipe may be read after the answer to a request that came later than what was written;
 * a file holds at any moment what was written before.
 */
async function openOutput(): Promise<{ fd: number; read(): string }> {
  const path = join(tmpdir(), `output-${randomUUID()}`);
  const fd = openSync(path, "a+", 0o600);
  await rm(path);
  let text = "";
  const decoder = new TextDecoder();
  const buffer = Buffer.alloc(64 * 1024);
  let position = 0;
  return {
    fd,
    read() {
      for (;;) {
        const bytes = readSync(fd, buffer, 0, buffer.length, position);
        if (bytes === 0) return text;
        position += bytes;
        text += decoder.decode(buffer.subarray(0, bytes), { stream: true });
      }
    },
  };
}

async function answers(socket: string): Promise<boolean> {
  try {
    (await connectUnixSocket(socket, START_TIMEOUT_MS)).destroy();
    return true;
  } catch (error) {
    const code = systemErrorCode(error);
    // ECONNRESET: it was killed between its answer and ours.
    if (code === "ENOENT" || code === "ECONNREFUSED" || code === "ECONNRESET") return false;
    throw error;
  }
}
