/** A real daemon and real plugins, as processes of the built program, in the test's own namespaces. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { credentials } from "@grpc/grpc-js";
import type { DaemonStatus } from "../../src/api/status.ts";
import { type PluginClient, startPlugin } from "../../src/cli/demo/plugin-client.ts";
import { DaemonClient, type PrebuildProgress } from "../../src/gen/fleetingd.ts";
import { callUnary } from "../../src/host/grpc.ts";
import { waitFor } from "../../src/host/wait.ts";

export const ROOT = fileURLToPath(new URL("../..", import.meta.url));
export const FLEETINGD = join(ROOT, "bin", "fleetingd");
export const PLUGIN = join(ROOT, "bin", "fleeting-plugin-fleetingd");
/** Images are kept here from one run to the next: to build them takes minutes under emulation. */
export const IMAGES = process.env["FLEETINGD_TEST_IMAGES"] ?? join(ROOT, ".cache", "images");

export interface TestDaemon {
  readonly directory: string;
  readonly socket: string;
  readonly client: DaemonClient;
  readonly process: ChildProcess;
  /** What it has logged so far. */
  log(): string;
  status(): Promise<DaemonStatus>;
  /** Builds the pool's golden image; answers its name. */
  prebuild(pool: string, force?: boolean): Promise<string>;
  /** Waits until so many unclaimed VMs are ready. */
  untilWarm(pool: string, count: number): Promise<void>;
  attach(pluginConfig: Record<string, unknown>): Promise<PluginClient>;
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
}

const START_TIMEOUT_MS = 30_000;
const VM_TIMEOUT_MS = 5 * 60_000;
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
    ...more,
  };
  const lines = Object.entries(keys).map(([key, value]) => `${key} = ${JSON.stringify(value)}`);
  return `[pools.${name}]\n${lines.join("\n")}\n`;
}

export async function startTestDaemon(options: TestDaemonOptions): Promise<TestDaemon> {
  const directory = options.directory ?? (await mkdtemp(join(tmpdir(), "fleetingd-")));
  const socket = join(directory, "daemon.sock");
  const configPath = join(directory, "config.toml");
  await mkdir(IMAGES, { recursive: true });
  const daemonTable = `[daemon]\nsocket = ${JSON.stringify(socket)}\nstate_directory = ${JSON.stringify(directory)}\nlog_level = "debug"\nimages_gc_interval = "0s"\n`;
  await writeFile(configPath, `${daemonTable}[images.default]\ntype = "debian-packages"\n${options.pools}`, {
    mode: 0o600,
  });
  const flags = options.keepVms ? [] : ["--ephemeral"];
  const child = spawn(FLEETINGD, ["--config", configPath, "serve", ...flags], {
    stdio: ["ignore", "pipe", "pipe"],
  });
  let log = "";
  for (const stream of [child.stdout, child.stderr])
    stream.on("data", (text: Buffer) => (log += text.toString()));
  const client = new DaemonClient(`unix:${socket}`, credentials.createInsecure());
  await waitFor(
    async () => {
      if (child.exitCode !== null) throw new Error(`the daemon ended with code ${child.exitCode}:\n${log}`);
      return new Promise<true | undefined>((resolve) =>
        client.waitForReady(Date.now() + 200, (error) => resolve(error === undefined ? true : undefined)),
      );
    },
    { timeoutMs: START_TIMEOUT_MS, intervalMs: 20, what: "the daemon's socket" },
  );

  const status = async (): Promise<DaemonStatus> =>
    JSON.parse((await callUnary(client.status.bind(client), {}, 10_000)).json) as DaemonStatus;
  const plugins: PluginClient[] = [];
  return {
    directory,
    socket,
    client,
    process: child,
    log: () => log,
    status,
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
          if (found?.lastError) throw new Error(`${found.lastError}\n${log}`);
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
    async stop() {
      for (const plugin of plugins) await plugin.close();
      client.close();
      if (child.exitCode === null && child.signalCode === null) {
        const exited = once(child, "exit");
        child.kill("SIGTERM");
        await exited;
      }
      if (!options.keepVms) await rm(directory, { recursive: true, force: true });
      return child.exitCode === 0;
    },
  };
}
