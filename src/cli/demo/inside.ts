/** The demo itself, inside its namespaces: a daemon, a plugin, two jobs. */
import { once } from "node:events";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { credentials } from "@grpc/grpc-js";
import type { CloneStatus, DaemonStatus } from "../../api/status.ts";
import { FleetingdError } from "../../errors.ts";
import { type ConnectInfoResponse, State } from "../../gen/fleeting.ts";
import { DaemonClient, type PrebuildProgress } from "../../gen/fleetingd.ts";
import { type ChildProcess, endChild, hasEnded, startChild } from "../../host/child.ts";
import { ensureDirectory, removeTree } from "../../host/files.ts";
import { callUnary } from "../../host/grpc.ts";
import { run } from "../../host/run.ts";
import { waitForLogin } from "../../host/ssh.ts";
import { waitFor } from "../../host/wait.ts";
import { createSteps, type Steps } from "../steps.ts";
import { EGRESS_ADDRESS, EGRESS_INTERFACE, OUTSIDE_ADDRESS, startOutside } from "./outside.ts";
import { loginTarget, type PluginClient, startPlugin } from "./plugin-client.ts";
import { TIMINGS_FILE, type Timing } from "./timings.ts";

export interface InsideOptions {
  directory: string;
  /** Everything but the images; removed at the end. */
  runDirectory: string;
  /** When the demo began, in milliseconds since 1970. */
  startedAt: number;
  command: readonly string[];
  outsideCommand: readonly string[];
  pluginPath: string;
}

const JOBS = 2;
const VM_MEMORY_MB = 512;
const DAEMON_TIMEOUT_MS = 30_000;
const PREBUILD_TIMEOUT_MS = 30 * 60_000;
const WARM_TIMEOUT_MS = 5 * 60_000;
const JOB_TIMEOUT_MS = 120_000;
const DELETE_TIMEOUT_MS = 60_000;
const POLL_MS = 20;

const JOB_SCRIPT = `
echo "kernel   $(uname -sr)"
echo "address  $(ip -4 -o address show scope global | awk '{print $4}')"
echo "user     $(id -un), with sudo $(sudo -n id -un)"
echo "outside  sees $(curl -sS --max-time 30 http://${OUTSIDE_ADDRESS}/)"
`;

/** @returns the exit code */
export async function runInside(options: InsideOptions): Promise<number> {
  const steps = createSteps(process.stdout, options.startedAt);
  const children: ChildProcess[] = [];
  await removeTree(options.runDirectory);
  await ensureDirectory(options.runDirectory);
  await run("ip", ["link", "set", "lo", "up"]);
  children.push(await startOutside(options.outsideCommand));
  const configPath = join(options.runDirectory, "config.toml");
  const socket = join(options.runDirectory, "daemon.sock");
  await writeFile(configPath, configText(options, socket), { mode: 0o600 });
  const timings: Timing[] = [];
  try {
    const daemon = await steps.step("start the daemon", async () => {
      const child = await startDaemon(options, configPath);
      children.push(child);
      return connectToDaemon(child, socket);
    });
    await makeGoldenImage(steps, daemon, timings);
    await waitUntilWarm(steps, daemon, timings);
    await runJobs(steps, daemon, { pluginPath: options.pluginPath, socket }, timings);
    daemon.close();
    await writeFile(join(options.runDirectory, TIMINGS_FILE), JSON.stringify(timings));
    return 0;
  } finally {
    // The daemon before the outside, which VMs may still talk to.
    for (const child of children.reverse()) await endChild(child);
  }
}

function configText(options: InsideOptions, socket: string): string {
  return [
    "[daemon]",
    `socket = ${JSON.stringify(socket)}`,
    `state_directory = ${JSON.stringify(options.runDirectory)}`,
    'socket_group = "root"',
    'log_level = "warn"',
    "[pools.default]",
    `warm_instances = ${JOBS}`,
    'prebuild_interval = "0s"',
    "max_instances = 4",
    `egress_interface = "${EGRESS_INTERFACE}"`,
    `vm_disk_directory = ${JSON.stringify(options.directory)}`,
    "vm_num_cpu_cores = 1",
    `vm_memory_mb = ${VM_MEMORY_MB}`,
    "vm_disk_size_gb = 4",
    "",
  ].join("\n");
}

function startDaemon(options: InsideOptions, configPath: string): Promise<ChildProcess> {
  const [program = "", ...args] = options.command;
  const { FLEETINGD_DEMO_ROLE: _, ...env } = process.env;
  return startChild(program, [...args, "--config", configPath, "serve", "--ephemeral"], {
    stdio: ["ignore", "inherit", "inherit"],
    env,
  });
}

async function connectToDaemon(child: ChildProcess, socket: string): Promise<DaemonClient> {
  const client = new DaemonClient(`unix:${socket}`, credentials.createInsecure());
  const answers = async () => {
    if (hasEnded(child))
      throw new FleetingdError("UNAVAILABLE", "the daemon ended at its start; its message is above");
    return new Promise<true | undefined>((resolve) =>
      client.waitForReady(Date.now() + 500, (error) => resolve(error === undefined ? true : undefined)),
    );
  };
  await waitFor(answers, { timeoutMs: DAEMON_TIMEOUT_MS, intervalMs: POLL_MS, what: "the daemon's socket" });
  return client;
}

async function status(daemon: DaemonClient): Promise<DaemonStatus> {
  const { json } = await callUnary(daemon.status.bind(daemon), {}, 10_000);
  return JSON.parse(json) as DaemonStatus;
}

async function makeGoldenImage(steps: Steps, daemon: DaemonClient, timings: Timing[]): Promise<void> {
  await steps.step("make the golden image", async (note) => {
    const stream = daemon.prebuild(
      { pool: "default", force: false },
      { deadline: Date.now() + PREBUILD_TIMEOUT_MS },
    );
    stream.on("data", ({ message }: PrebuildProgress) => note(message));
    await once(stream, "end");
  });
  const [pool] = (await status(daemon)).pools;
  const built = pool?.prebuild.timings;
  timings.push(
    built
      ? { what: "prebuild", ms: built.prebuildSeconds * 1_000 }
      : { what: "prebuild", ms: undefined, remark: "already there" },
    snapshotTiming(pool?.clones),
  );
}

function snapshotTiming(clones: CloneStatus | undefined): Timing {
  const seconds = clones?.createSeconds ?? undefined;
  if (seconds !== undefined) return { what: "snapshot", ms: seconds * 1_000 };
  return {
    what: "snapshot",
    ms: undefined,
    remark: clones?.problem ?? (clones?.mode === "boot" ? "none, every VM boots" : "already there"),
  };
}

async function waitUntilWarm(steps: Steps, daemon: DaemonClient, timings: Timing[]): Promise<void> {
  const instances = await steps.step(`keep ${JOBS} VMs warm`, (note) =>
    waitFor(
      async () => {
        const { pools, instances } = await status(daemon);
        const trouble = pools[0]?.lastError;
        if (trouble) throw new FleetingdError("HYPERVISOR_FAILED", `no VM could be made: ${trouble}`);
        note(instances.map((one) => one.phases.at(-1)?.name ?? one.state).join(", "));
        return instances.filter((one) => one.state === "ready").length >= JOBS ? instances : undefined;
      },
      { timeoutMs: WARM_TIMEOUT_MS, intervalMs: 100, what: "warm VMs" },
    ),
  );
  const phase = (name: string): number => {
    const all = instances.map((one) => one.phases.find((entry) => entry.name === name)?.seconds ?? 0);
    return Math.max(...all) * 1_000;
  };
  // A VM goes on from the snapshot, or boots.
  const startMs = Math.max(phase("resume"), phase("boot"));
  timings.push({ what: "clone", ms: phase("clone") }, { what: "start to SSH", ms: startMs });
}

async function runJobs(
  steps: Steps,
  daemon: DaemonClient,
  plugin: { pluginPath: string; socket: string },
  timings: Timing[],
): Promise<void> {
  const client = await steps.step("start the plugin as GitLab Runner does", async () => {
    const started = await startPlugin(plugin.pluginPath);
    await started.init({ pool: "default", socket: plugin.socket });
    return started;
  });
  try {
    const claimed = await steps.step(`claim ${JOBS} VMs`, () => claim(client, timings));
    for (const [id, info] of claimed) {
      const begunAt = performance.now();
      const output = await steps.step(`run a job in ${id}`, () => runJob(info));
      timings.push({ what: `job in ${id}`, ms: performance.now() - begunAt });
      steps.say(output.trimEnd().replaceAll(/^/gm, "            │ "));
    }
    const begunAt = performance.now();
    await steps.step("delete the VMs", () => release(client, daemon, [...claimed.keys()]));
    timings.push({ what: "delete", ms: performance.now() - begunAt });
  } finally {
    await client.close();
  }
}

/** Increase, Update and ConnectInfo: what the runner does to get a VM. */
async function claim(client: PluginClient, timings: Timing[]): Promise<Map<string, ConnectInfoResponse>> {
  const begunAt = performance.now();
  const accepted = await client.increase(JOBS);
  if (accepted !== JOBS) throw new FleetingdError("EXHAUSTED", `the daemon gave ${accepted} of ${JOBS} VMs`);
  const running = (await client.update()).filter(({ state }) => state === State.RUNNING);
  const claimed = new Map<string, ConnectInfoResponse>();
  for (const { instance } of running) claimed.set(instance, await client.connectInfo(instance));
  timings.push({ what: "claim", ms: performance.now() - begunAt, remark: `${claimed.size} VMs` });
  return claimed;
}

async function runJob(info: ConnectInfoResponse): Promise<string> {
  const login = await waitForLogin(loginTarget(info), {
    timeoutMs: JOB_TIMEOUT_MS,
    signal: AbortSignal.timeout(JOB_TIMEOUT_MS),
  });
  try {
    const { exitCode, stdout, stderr } = await login.exec(JOB_SCRIPT, JOB_TIMEOUT_MS);
    if (exitCode === 0 && stdout.includes(`sees ${EGRESS_ADDRESS}`)) return stdout;
    throw new FleetingdError("INTERNAL", `the job ended with ${exitCode}: ${stdout}${stderr}`);
  } finally {
    login.close();
  }
}

async function release(client: PluginClient, daemon: DaemonClient, ids: string[]): Promise<void> {
  await client.decrease(ids);
  const gone = async () => {
    const { instances } = await status(daemon);
    return instances.some(({ id }) => ids.includes(id)) ? undefined : true;
  };
  await waitFor(gone, { timeoutMs: DELETE_TIMEOUT_MS, intervalMs: POLL_MS, what: "the VMs to be gone" });
}
