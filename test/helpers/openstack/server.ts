/**
 * OpenStack 2025.1 with the services' real code on SQLite: Keystone, Placement, Glance, Neutron and Nova with its own fake
 * driver, which tests steer (steered_driver.py). It listens on fixed ports of the loopback, so that there is one in a network
 * namespace; its users are `admin` and `demo`, whose projects have the same names.
 */
import { spawn } from "node:child_process";
import { openSync } from "node:fs";
import { cp, mkdtemp, readdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type ChildProcess, exitOf, hasEnded } from "../../../src/host/child.ts";
import { exists, readTextIfExists, removeTree } from "../../../src/host/files.ts";
import { withLock } from "../../../src/host/lock.ts";
import { waitFor } from "../../../src/host/wait.ts";
import { type CloudUser, logInAs } from "./admin.ts";
import { makeServiceUsers, makeSmallCloud, makeTables, writeConfiguration } from "./initial-state.ts";
import { type Installation, installOpenStack } from "./install.ts";
import { ADMIN_PASSWORD, CLOUDS_YAML, PORTS, type ServiceName, urlOf } from "./settings.ts";

export interface OpenStack {
  /** Where it runs; `clouds.yaml` is there. */
  readonly directory: string;
  readonly admin: CloudUser;
  /** An administrator in the project `demo`, whom nothing happens to that happens to the user of that name. */
  readonly demo: CloudUser;
  /** Ends the services as a crash would. */
  stopServices(): Promise<void>;
  /** On what they hold. */
  startServices(): Promise<void>;
  stop(): Promise<void>;
  /** All requests of its users since the last call: `nova POST /v2.1/servers`. */
  requests(): Promise<string[]>;
  /** The service's next request with this method is answered so, and has no other effect. */
  failNext(
    service: ServiceName,
    method: string,
    status: string,
    headers?: Record<string, string>,
  ): Promise<void>;
  /** What the driver does with servers whose names begin so; undefined: nothing special any more. */
  steer(kind: "fail" | "hold", namePrefix: string, text: string | undefined): Promise<void>;
  /** What consoles say, of one server or by default. */
  setConsole(text: string, serverId?: string): Promise<void>;
}

const PYTHON_FILES = new URL("python/", import.meta.url).pathname;
const START_TIMEOUT_MS = 240_000;
const STATE_VERSION = 3;

export async function startOpenStack(): Promise<OpenStack> {
  const installed = await installOpenStack();
  const directory = await mkdtemp(join(tmpdir(), "openstack-"));
  await cp(await initialState(installed), directory, { recursive: true });
  await writeConfiguration(directory, installed);
  await writeFile(join(directory, "clouds.yaml"), CLOUDS_YAML);
  let processes = await startServices(directory, installed);
  const admin = await logInAs({ name: "admin", password: ADMIN_PASSWORD, project: "admin" });
  await untilComputes(admin);
  const end = async (): Promise<void> => {
    await Promise.all(processes.map(kill));
  };
  let faults = 0;
  return {
    directory,
    admin,
    demo: await logInAs({ name: "admin", password: ADMIN_PASSWORD, project: "demo" }),
    stopServices: end,
    async startServices() {
      processes = await startServices(directory, installed);
      await untilComputes(admin);
    },
    async stop() {
      await end();
      await removeTree(directory);
    },
    async requests() {
      const log = join(directory, "requests.log");
      const text = (await readTextIfExists(log)) ?? "";
      await rm(log, { force: true });
      return text.split("\n").filter((line) => line !== "");
    },
    async failNext(service, method, status, headers = {}) {
      const lines = [status, ...Object.entries(headers).map(([name, value]) => `${name}: ${value}`)];
      const name = `${service}-${method}.${String(faults++).padStart(4, "0")}`;
      await writeFile(join(directory, `new-${name}`), lines.join("\n"));
      await rename(join(directory, `new-${name}`), join(directory, "faults", name));
    },
    async steer(kind, namePrefix, text) {
      const path = join(directory, kind, namePrefix);
      if (text === undefined) await rm(path, { force: true });
      else await writeFile(path, text);
    },
    async setConsole(text, serverId = "default") {
      await writeFile(join(directory, "console", serverId), text);
    },
  };
}

/** A folder with the services' state as it is at first, made once: that takes a minute. */
async function initialState(installed: Installation): Promise<string> {
  const state = join(installed.cache, `state-${STATE_VERSION}`);
  await withLock(`${state}.lock`, { timeoutMs: 300_000 }, async () => {
    if (await exists(state)) return;
    const fresh = `${state}.new`;
    await removeTree(fresh);
    await writeConfiguration(fresh, installed);
    await makeTables(fresh, installed);
    const processes: ChildProcess[] = [];
    try {
      processes.push(...(await startServices(fresh, installed, ["keystone"])));
      await makeServiceUsers();
      processes.push(...(await startServices(fresh, installed, ["placement", "glance", "neutron", "nova"])));
      await makeSmallCloud();
    } finally {
      await Promise.all(processes.map(kill));
    }
    await rm(join(fresh, "requests.log"));
    await rename(fresh, state);
  });
  return state;
}

async function startServices(
  directory: string,
  installed: Installation,
  names: readonly ServiceName[] = ["keystone", "placement", "glance", "neutron", "nova"],
): Promise<ChildProcess[]> {
  const processes: ChildProcess[] = [];
  const start = async (name: ServiceName): Promise<void> => {
    const child = startService(name, directory, installed);
    processes.push(child);
    await untilAnswers(name, child, directory);
  };
  try {
    // Nova asks Keystone for Placement as it starts, and ends if either does not answer.
    await Promise.all(names.filter((name) => name !== "nova").map(start));
    if (names.includes("nova")) await start("nova");
  } catch (error) {
    await Promise.all(processes.map(kill));
    throw error;
  }
  return processes;
}

function startService(name: ServiceName, directory: string, { python }: Installation): ChildProcess {
  // Changes of these two need to come one after the other on SQLite: it has one writer, who is not waited for long.
  const threads = name === "neutron" || name === "placement" ? "1" : "4";
  const app = `${name}.wsgi.api:application`;
  const args =
    name === "nova"
      ? ["nova_services.py", String(PORTS.nova)]
      : ["serve.py", name, app, String(PORTS[name]), threads];
  const [script = "", ...rest] = args;
  const output = openSync(join(directory, "log", `${name}.out`), "a");
  return spawn(python, [join(PYTHON_FILES, script), ...rest], {
    cwd: directory,
    stdio: ["ignore", output, output],
    env: {
      PATH: process.env["PATH"] ?? "",
      PYTHONPATH: PYTHON_FILES,
      OS_KEYSTONE_CONFIG_DIR: directory,
      OS_PLACEMENT_CONFIG_DIR: directory,
      OS_GLANCE_CONFIG_DIR: directory,
      OS_NEUTRON_CONFIG_DIR: directory,
      OS_NEUTRON_CONFIG_FILES: "neutron.conf",
      PYTHONDONTWRITEBYTECODE: "1",
    },
  });
}

/** What counts is on disk; and some of them take a minute to end when they are asked to. */
async function kill(child: ChildProcess): Promise<void> {
  child.kill("SIGKILL");
  await exitOf(child);
}

async function untilAnswers(name: ServiceName, child: ChildProcess, directory: string): Promise<void> {
  const answers = async (): Promise<true | undefined> => {
    if (hasEnded(child)) throw new Error(`${name} ended:\n${await lastOutput(directory, name)}`);
    try {
      await fetch(urlOf(name), { signal: AbortSignal.timeout(20_000) });
      return true;
    } catch {
      // Not yet.
      return undefined;
    }
  };
  await waitFor(answers, { timeoutMs: START_TIMEOUT_MS, intervalMs: 100, what: `${name} to answer` });
}

/** The scheduler takes no host whose last sign of life, which is kept, is a minute old. */
async function untilComputes(admin: CloudUser): Promise<void> {
  const computes = async (): Promise<true | undefined> => {
    const { services } = (await admin.call("nova", "GET", "/os-services?binary=nova-compute")) as {
      services: { state: string }[];
    };
    return services.some(({ state }) => state === "up") ? true : undefined;
  };
  await waitFor(computes, { timeoutMs: START_TIMEOUT_MS, intervalMs: 200, what: "nova-compute to be up" });
}

async function lastOutput(directory: string, name: string): Promise<string> {
  const logs = (await readdir(join(directory, "log"))).filter((file) => file.startsWith(name));
  const texts = await Promise.all(logs.map((file) => readFile(join(directory, "log", file), "utf8")));
  return texts.map((text) => text.slice(-3_000)).join("\n");
}
