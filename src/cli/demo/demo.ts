/**
 * `fleetingd demo`: the whole product once, on this machine, in namespaces of its own.
 *
 * The command starts itself again inside new network, mount and process namespaces. All that it makes lives there, so
 * the host's rules, routes and forwarding are never touched, and when that process ends, however it ends, the kernel
 * takes everything with it. Only images stay, for the next run.
 */
import { access, constants } from "node:fs/promises";
import { join } from "node:path";
import { fetchBaseImage } from "../../daemon/base-images.ts";
import { FleetingdError } from "../../errors.ts";
import { exitOf, startChild } from "../../host/child.ts";
import { ensureDirectory, findProgram, removeTree } from "../../host/files.ts";
import { packageFile } from "../../host/package-root.ts";
import { createLogger } from "../../log.ts";
import { progressText } from "../../sources/local/golden-images.ts";
import type { CliCommand, DemoOptions } from "../context.ts";
import { createSteps } from "../steps.ts";
import { runInside } from "./inside.ts";
import { OUTSIDE_ROLE, serveOutside } from "./outside.ts";

const DEMO_IMAGE = { type: "auto" } as const;
const ROLE_VARIABLE = "FLEETINGD_DEMO_ROLE";
const INSIDE_ROLE = "inside";
const PROGRAMS = ["unshare", "ip", "nft", "qemu-img"];

export const demo: CliCommand<DemoOptions> = async (options) => {
  const role = process.env[ROLE_VARIABLE];
  if (role === OUTSIDE_ROLE) return serveOutside();
  const runDirectory = join(options.directory, "run");
  if (role === INSIDE_ROLE) {
    return runInside({
      directory: options.directory,
      runDirectory,
      command: thisProgram(),
      outsideCommand: ["env", `${ROLE_VARIABLE}=${OUTSIDE_ROLE}`, ...thisProgram(), "demo"],
      pluginPath: await packageFile("bin", "fleeting-plugin-fleetingd"),
    });
  }
  await checkHost();
  await ensureDirectory(options.directory);
  await fetchImage(options.directory);
  try {
    return await runInNamespaces([...thisProgram(), "demo", "--directory", options.directory]);
  } finally {
    await removeTree(runDirectory);
  }
};

/** The command line that starts this program, without arguments. */
function thisProgram(): string[] {
  return [process.execPath, ...process.execArgv, process.argv[1] ?? ""];
}

/** Before the namespaces, from which no mirror can be reached. */
async function fetchImage(diskDirectory: string): Promise<void> {
  const logger = createLogger({ format: "text", level: "warn" });
  const signal = new AbortController().signal;
  await createSteps(process.stdout).step("get the base image", (note) =>
    fetchBaseImage(DEMO_IMAGE, {
      diskDirectory,
      signal,
      logger,
      onProgress: (progress) => note(progressText(progress)),
    }),
  );
}

async function checkHost(): Promise<void> {
  if (process.getuid?.() !== 0) {
    throw new FleetingdError(
      "PERMISSION",
      "the demo makes network devices and starts VMs, which needs root",
      {
        hint: "Run it with sudo.",
      },
    );
  }
  try {
    await access("/dev/net/tun", constants.R_OK | constants.W_OK);
  } catch (error) {
    throw new FleetingdError("UNAVAILABLE", "there is no usable /dev/net/tun, so VMs can have no network", {
      hint: "Load the module with `modprobe tun`; in a container, pass the device in.",
      cause: error,
    });
  }
  for (const program of PROGRAMS) {
    if ((await findProgram(program)) !== undefined) continue;
    throw new FleetingdError("MISSING_PROGRAM", `the program ${program} was not found`, {
      hint: "Run ./quickstart, which installs everything that the demo needs.",
    });
  }
}

async function runInNamespaces(command: readonly string[]): Promise<number> {
  const child = await startChild(
    "unshare",
    ["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--", ...command],
    // A session of its own: an interrupt from the terminal reaches us, and we end the inside in our own way.
    { stdio: "inherit", detached: true, env: { ...process.env, [ROLE_VARIABLE]: INSIDE_ROLE } },
  );
  let interrupted = false;
  const interrupt = (): void => {
    interrupted = true;
    child.kill("SIGKILL");
  };
  process.once("SIGINT", interrupt);
  process.once("SIGTERM", interrupt);
  process.once("SIGHUP", interrupt);
  try {
    const code = await exitOf(child);
    if (interrupted)
      process.stderr.write("\ninterrupted: the demo's VMs and networks are gone, images are kept\n");
    return code ?? 1;
  } finally {
    for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.removeListener(signal, interrupt);
  }
}
