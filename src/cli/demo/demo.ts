/**
 * `fleetingd demo`: the whole product once, on this machine, in namespaces of its own.
 *
 * The command starts itself again inside new network, mount and process namespaces. All that it makes lives there, so
 * the host's rules, routes and forwarding are never touched, and when that process ends, however it ends, the kernel
 * takes everything with it. Only images stay, for the next run.
 */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { fetchBaseImage } from "../../daemon/base-images.ts";
import { checkHost } from "../../daemon/host-checks.ts";
import { FleetingdError } from "../../errors.ts";
import { exitOf, startChild } from "../../host/child.ts";
import { ensureDirectory, findProgram, listDirectory, removeTree } from "../../host/files.ts";
import { interruptible } from "../../host/interrupt.ts";
import { withLock } from "../../host/lock.ts";
import { packageFile } from "../../host/package-root.ts";
import { createLogger } from "../../log.ts";
import { progressText } from "../../sources/local/golden-images.ts";
import { cloneSuffix, clonesDirectory } from "../../sources/local/vm.ts";
import type { CliCommand, DemoOptions } from "../context.ts";
import { requireRoot } from "../root.ts";
import { createSteps } from "../steps.ts";
import { runInside } from "./inside.ts";
import { OUTSIDE_ROLE, serveOutside } from "./outside.ts";
import { TIMINGS_FILE, type Timing, timingsTable } from "./timings.ts";

const DEMO_IMAGE = { type: "auto" } as const;
const ROLE_VARIABLE = "FLEETINGD_DEMO_ROLE";
const STARTED_AT_VARIABLE = "FLEETINGD_DEMO_STARTED_AT";
const INSIDE_ROLE = "inside";
/** Besides what the daemon needs. */
const PROGRAMS = ["unshare"];

export const demo: CliCommand<DemoOptions> = async (options) => {
  const role = process.env[ROLE_VARIABLE];
  if (role === OUTSIDE_ROLE) return serveOutside();
  const runDirectory = join(options.directory, "run");
  if (role === INSIDE_ROLE) {
    return runInside({
      directory: options.directory,
      runDirectory,
      startedAt: Number(process.env[STARTED_AT_VARIABLE]),
      command: thisProgram(),
      outsideCommand: ["env", `${ROLE_VARIABLE}=${OUTSIDE_ROLE}`, ...thisProgram(), "demo"],
      pluginPath: await packageFile("bin", "fleeting-plugin-fleetingd"),
    });
  }
  await checkMachine();
  await ensureDirectory(options.directory);
  return interruptible(
    (signal) => runOutside(options, runDirectory, signal),
    () => process.stderr.write("\ninterrupted: the demo's VMs and networks are gone, images are kept\n"),
  );
};

/** What needs the host: the base image from its network, and the namespaces for all the rest. */
async function runOutside(options: DemoOptions, runDirectory: string, signal: AbortSignal): Promise<number> {
  const lock = { timeoutMs: 0, signal };
  return withLock(join(options.directory, "demo.lock"), lock, async () => {
    const startedAt = Date.now();
    const image = await fetchImage(options.directory, signal);
    try {
      const code = await runInNamespaces(
        [...thisProgram(), "demo", "--directory", options.directory],
        startedAt,
        signal,
      );
      if (code === 0) await printTimings(runDirectory, image);
      return code;
    } finally {
      await removeRun(options.directory, runDirectory);
    }
  });
}

/** What an interrupted inside could not remove itself; its processes, devices and rules went with its namespaces. */
async function removeRun(diskDirectory: string, runDirectory: string): Promise<void> {
  const clones = clonesDirectory(diskDirectory);
  const ours = cloneSuffix(runDirectory);
  for (const name of await listDirectory(clones))
    if (name.endsWith(ours)) await removeTree(join(clones, name));
  await removeTree(runDirectory);
}

/** The command line that starts this program, without arguments. */
function thisProgram(): string[] {
  return [process.execPath, ...process.execArgv, process.argv[1] ?? ""];
}

/** Before the namespaces, from which no mirror can be reached. */
async function fetchImage(diskDirectory: string, signal: AbortSignal): Promise<Timing> {
  const logger = createLogger({ format: "text", level: "warn" });
  const begunAt = performance.now();
  await createSteps(process.stdout).step("get the base image", (note) =>
    fetchBaseImage(DEMO_IMAGE, {
      diskDirectory,
      signal,
      logger,
      onProgress: (progress) => note(progressText(progress)),
    }),
  );
  return { what: "image", ms: performance.now() - begunAt };
}

async function checkMachine(): Promise<void> {
  requireRoot("the demo makes network devices and starts VMs");
  await checkHost();
  for (const program of PROGRAMS) {
    if ((await findProgram(program)) !== undefined) continue;
    throw new FleetingdError("MISSING_PROGRAM", `the program ${program} was not found`, {
      hint: "Run ./quickstart, which installs everything that the demo needs.",
    });
  }
}

async function runInNamespaces(
  command: readonly string[],
  startedAt: number,
  signal: AbortSignal,
): Promise<number> {
  const child = await startChild(
    "unshare",
    ["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--", ...command],
    // A session of its own: an interrupt from the terminal reaches us alone, and with `unshare` the kernel ends the inside.
    {
      stdio: "inherit",
      detached: true,
      env: { ...process.env, [ROLE_VARIABLE]: INSIDE_ROLE, [STARTED_AT_VARIABLE]: String(startedAt) },
    },
  );
  const kill = (): void => void child.kill("SIGKILL");
  signal.addEventListener("abort", kill);
  if (signal.aborted) kill();
  try {
    const code = await exitOf(child);
    signal.throwIfAborted();
    return code ?? 1;
  } finally {
    signal.removeEventListener("abort", kill);
  }
}

async function printTimings(runDirectory: string, image: Timing): Promise<void> {
  const inside = JSON.parse(await readFile(join(runDirectory, TIMINGS_FILE), "utf8")) as Timing[];
  process.stdout.write(`${timingsTable([image, ...inside])}\n`);
}
