/** GitLab Runner beside us: its way to the daemon, and what its own configuration says of our pools. */
import { chmod, readFile, stat } from "node:fs/promises";
import { isAbsolute } from "node:path";
import { parsePluginConfig } from "../config/plugin-config.ts";
import { type Autoscaler, type Runner, type RunnerFile, runnerFileSchema } from "../config/runner-file.ts";
import { plainValue, readToml } from "../config/toml.ts";
import type { Config } from "../config/types.ts";
import { describeError, messageOf, systemErrorCode } from "../errors.ts";
import { exists, findProgram, readTextIfExists } from "../host/files.ts";
import { groupNameOf } from "../host/groups-file.ts";
import { connectUnixSocket } from "../host/unix-socket.ts";
import { type Check, type Finding, fail, ok, warn } from "./finding.ts";

const RUNNER_USER = "gitlab-runner";
const CONNECT_TIMEOUT_MS = 5_000;
const INSTANCE_EXECUTORS = ["instance", "docker-autoscaler"];
const MEND_FILE = "Mend it there; GitLab Runner goes on with what it has read before.";
const PLUGIN = /fleeting-plugin-fleetingd|(^|\/)fleetingd(:|$)/;

/** The runner reads these in [runners.autoscaler] only, and passes over them elsewhere without a word. */
const OF_AUTOSCALER = ["plugin", "instance_ready_command", "delete_instances_on_shutdown"];

export function runnerChecks(config: Config, socketPath: string, runnerConfigPath: string): Check[] {
  return [
    { area: "daemon", look: () => daemon(socketPath) },
    { area: "runner", look: () => runnerConfig(config, runnerConfigPath) },
  ];
}

async function daemon(socketPath: string): Promise<Finding[]> {
  try {
    (await connectUnixSocket(socketPath, CONNECT_TIMEOUT_MS)).destroy();
  } catch (error) {
    const code = systemErrorCode(error);
    if (code === "ENOENT" || code === "ECONNREFUSED")
      return [
        fail(
          `the daemon is not running: nobody listens on ${socketPath}`,
          "Run `systemctl start fleetingd`, and look at `journalctl -u fleetingd`.",
        ),
      ];
    return [
      fail(
        `the daemon does not answer on ${socketPath}: ${messageOf(error)}`,
        "Run `systemctl restart fleetingd`; VMs live on.",
      ),
    ];
  }
  const { mode, gid } = await stat(socketPath);
  const findings = [ok(`the daemon listens on ${socketPath}`)];
  if ((mode & 0o007) !== 0)
    findings.push({
      ...fail(
        `every user of this host may use ${socketPath}, and get into every VM`,
        `Run \`chmod 660 ${socketPath}\`.`,
      ),
      fix: { what: `take ${socketPath} from all but its group`, run: () => chmod(socketPath, 0o660) },
    });
  return [...findings, ...(await runnerUser(socketPath, gid, (mode & 0o060) === 0o060))];
}

/** The packages of GitLab Runner run it as root, which may; many run it as this user. */
async function runnerUser(socketPath: string, gid: number, groupMay: boolean): Promise<Finding[]> {
  const line = (await readFile("/etc/passwd", "utf8"))
    .split("\n")
    .find((one) => one.startsWith(`${RUNNER_USER}:`));
  if (line === undefined) return [];
  const group = await groupNameOf(gid);
  const members = ((await readTextIfExists("/etc/group")) ?? "")
    .split("\n")
    .find((one) => one.startsWith(`${group}:`))
    ?.split(":")[3]
    ?.split(",");
  const isMember = line.split(":")[3] === String(gid) || members?.includes(RUNNER_USER) === true;
  if (groupMay && isMember) return [ok(`the user ${RUNNER_USER} may use ${socketPath}`)];
  return [
    warn(
      `the user ${RUNNER_USER} may not use ${socketPath}, which is of the group ${group}; it matters if GitLab Runner runs as that user`,
      `Run \`usermod -aG ${group === "root" ? "fleetingd" : group} ${RUNNER_USER}\` and restart the runner.`,
    ),
  ];
}

async function runnerConfig(config: Config, path: string): Promise<Finding[]> {
  const read = await readRunners(path);
  if (Array.isArray(read)) return read;
  const ours = read.runners.flatMap((runner) => {
    const { autoscaler } = runner;
    return autoscaler !== undefined && PLUGIN.test(autoscaler.plugin ?? "") ? [{ runner, autoscaler }] : [];
  });
  if (ours.length === 0)
    return [
      warn(
        `no runner in ${path} uses fleeting-plugin-fleetingd`,
        'Set executor = "instance" and plugin = "fleeting-plugin-fleetingd" in [runners.autoscaler].',
      ),
    ];
  const looks = ours.map(({ runner, autoscaler }) => lookAtRunner(config, runner, autoscaler));
  const findings = (await Promise.all(looks)).flat();
  if (read.shutdown_timeout === undefined)
    findings.push(
      warn(
        `shutdown_timeout is not set in ${path}, so a runner that is stopped lets its jobs only 30 s`,
        "Set it to as many seconds as your longest job takes.",
      ),
    );
  return findings;
}

async function readRunners(path: string): Promise<RunnerFile | Finding[]> {
  let text: string | undefined;
  try {
    text = await readTextIfExists(path);
  } catch (error) {
    return [
      warn(`${path} can't be read (${systemErrorCode(error) ?? messageOf(error)})`, "Run this as root."),
    ];
  }
  if (text === undefined)
    return [ok(`there is no ${path}: GitLab Runner is elsewhere, or --runner-config names its place`)];
  const toml = readToml(path, text);
  if ("syntaxError" in toml) return [fail(`${path} is not valid: ${toml.syntaxError}`, MEND_FILE)];
  const parsed = runnerFileSchema.safeParse(JSON.parse(JSON.stringify(plainValue(toml.table))));
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  return [
    fail(`${path} is not as GitLab Runner wants it: ${issue?.path.join(".")}: ${issue?.message}`, MEND_FILE),
  ];
}

async function lookAtRunner(config: Config, runner: Runner, autoscaler: Autoscaler): Promise<Finding[]> {
  const { plugin = "" } = autoscaler;
  const findings = [...settings(runner, autoscaler), itsPool(config, autoscaler)];
  if (!(await isThere(plugin)))
    findings.unshift(
      fail(`the plugin ${plugin} was not found`, "Install it, or set plugin to its absolute path."),
    );
  const who = `runner ${JSON.stringify(runner.name ?? "unnamed")}`;
  return findings.map((finding) => ({ ...finding, message: `${who}: ${finding.message}` }));
}

function settings(runner: Runner, autoscaler: Autoscaler): Finding[] {
  const { max_use_count: uses, capacity_per_instance: capacity, state_storage: storage } = autoscaler;
  const findings: Finding[] = [];
  if (!INSTANCE_EXECUTORS.includes(runner.executor))
    findings.push(
      fail(
        `executor = ${JSON.stringify(runner.executor)} has no use for instances`,
        `Set it to one of ${INSTANCE_EXECUTORS.join(", ")}.`,
      ),
    );
  for (const name of OF_AUTOSCALER.filter((one) => one in runner))
    findings.push(
      warn(`${name} stands in [[runners]], where it is not read`, `Move it to [runners.autoscaler].`),
    );
  if (uses !== 1)
    findings.push(
      warn(`max_use_count is ${uses ?? "not set"}, so jobs get the VMs of other jobs`, "Set it to 1."),
    );
  if (capacity !== 1)
    findings.push(
      warn(
        `capacity_per_instance = ${capacity} lets jobs share a VM at the same time`,
        "Set it to 1, and make VMs smaller instead.",
      ),
    );
  if (!storage.enabled)
    findings.push(
      warn(
        "it forgets its instances when it is restarted, and removes them with the jobs in them",
        "Set enabled = true in [runners.autoscaler.state_storage].",
      ),
    );
  return findings;
}

function itsPool(
  config: Config,
  { plugin_config: pluginConfig, max_instances: theirs }: Autoscaler,
): Finding {
  try {
    const { poolName, pool } = parsePluginConfig(JSON.stringify(pluginConfig), config);
    const ours = pool.maxInstances;
    if (theirs > 0 && theirs <= ours) return ok(`uses the pool ${poolName}`);
    return warn(
      `may ask for ${theirs === 0 ? "any number of" : theirs} instances, and the pool ${poolName} has at most ${ours}`,
      `Set its max_instances to ${ours}, or raise that of the pool.`,
    );
  } catch (error) {
    return fail(
      `its plugin_config is refused: ${describeError(error)}`,
      "Mend it; `fleetingd config check` shows the pools.",
    );
  }
}

async function isThere(plugin: string): Promise<boolean> {
  // An OCI reference (name:version) is the runner's to install.
  if (plugin.includes(":")) return true;
  return isAbsolute(plugin) ? exists(plugin) : (await findProgram(plugin)) !== undefined;
}
