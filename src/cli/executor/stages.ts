/** The stages of GitLab Runner's custom executor: config, prepare, run, cleanup; each is a process of its own. */
import { createReadStream } from "node:fs";
import { access, constants, writeFile } from "node:fs/promises";
import { Readable } from "node:stream";
import { describeError, FleetingdError, messageOf } from "../../errors.ts";
import { runSession } from "../../host/ssh-session.ts";
import { sleep } from "../../host/wait.ts";
import { createLogger, type Logger } from "../../log.ts";
import { type CliCommand, type CliContext, EXIT, NoDaemonError } from "../context.ts";
import { askForStatus } from "../status.ts";
import { failureCodes, isJob, jobOf, type MachineOptions, randomMachineName } from "./job.ts";
import {
  hasFailed,
  isBeingMade,
  isUsable,
  type Machine,
  poolFor,
  poolOfMachine,
  withMachine,
} from "./machine.ts";

export interface ConfigOptions extends MachineOptions {
  buildsDir?: string;
  cacheDir?: string;
}

export interface PrepareOptions extends MachineOptions {
  /** In seconds. */
  timeout: number;
}

export interface RunOptions extends MachineOptions {
  /** Whether the first word is the path of a script of this host, which the machine is given. */
  script: boolean;
  words: readonly string[];
}

const POLL_MS = 250;
const FULL_POLL_MS = 2_000;

/** Tells the runner, in JSON, where the job runs. */
export const config: CliCommand<ConfigOptions> = async ({ buildsDir, cacheDir }, context) => {
  context.out(
    JSON.stringify({
      driver: { name: "fleetingd", version: context.version },
      builds_dir: buildsDir,
      cache_dir: cacheDir,
      builds_dir_is_shared: false,
    }),
  );
  return EXIT.ok;
};

/** Claims a machine, and waits until it can be logged in to. */
export const prepare: CliCommand<PrepareOptions> = stage(async (options, context) => {
  const job = jobOf(options, process.env);
  const machine = job.machine ?? randomMachineName();
  const status = await askForStatus(options);
  const pool = poolOfMachine(machine, status) ?? poolFor(job.distro, status);
  const deadline = performance.now() + options.timeout * 1000;
  const logger = loggerOf(options, context);
  await withMachine(options, { pool, machine, logger }, async (one) => {
    const id = await untilUsable(one, deadline, context);
    const { externalAddress, username } = await one.connectInfo(id);
    context.out(`The machine ${machine} is ${id} of the pool ${pool}: ${username}@${externalAddress}.`);
  });
  if (job.machine === undefined)
    context.out(
      `Use it: fleetingd executor run --machine ${machine}; end it: fleetingd executor cleanup --machine ${machine}`,
    );
  return EXIT.ok;
});

/**
 * The stage may be asked for again: a machine that there is already is taken. However long the way to the daemon took, it is
 * asked once, and what became of that is looked at.
 */
async function untilUsable(machine: Machine, deadline: number, context: CliContext): Promise<string> {
  let told: string | undefined;
  for (let hasAsked = false; ; hasAsked = true) {
    const instances = await machine.instances();
    const usable = instances.find(isUsable);
    if (usable !== undefined) return usable.id;
    const failed = instances.filter(hasFailed);
    if (failed.length > 0) {
      await machine.release(failed.map(({ id }) => id));
      const [{ id, lastError } = { id: "", lastError: "" }] = failed;
      throw new FleetingdError(
        "UNAVAILABLE",
        `the machine could not be made: ${lastError || "its reason is not known"}.`,
        {
          hint: `See \`fleetingd explain ${id}\`.`,
        },
      );
    }
    if (hasAsked && performance.now() >= deadline) break;
    if (!instances.some(isBeingMade)) {
      const { accepted, reason } = await machine.claim();
      if (reason !== "" && reason !== told) context.err(`fleetingd: the machine has to wait: ${reason}`);
      told = reason;
      if (accepted === 0) await sleep(FULL_POLL_MS, AbortSignal.timeout(2 * FULL_POLL_MS));
    }
    await sleep(POLL_MS, AbortSignal.timeout(2 * FULL_POLL_MS));
  }
  throw new FleetingdError("TIMEOUT", `there was no machine in time${told ? `: ${told}` : ""}.`, {
    hint: "See `fleetingd why`; --timeout gives it more.",
  });
}

/** Runs a script of the runner, or by hand a command or a shell, in the machine. */
export const run: CliCommand<RunOptions> = stage(async (options, context) => {
  const { script, words } = options;
  const machine = named(options);
  const [path, ...args] = words;
  if (script && path === undefined)
    throw new FleetingdError("INVALID_ARGUMENT", "--script needs the path of a script.", {
      hint: 'In the runner\'s configuration: run_args = ["executor", "run", "--script"].',
    });
  if (script && path !== undefined) await access(path, constants.R_OK);
  const pool = poolOfMachine(machine, await askForStatus(options));
  if (pool === undefined) throw noMachine(machine);
  const exitCode = await withMachine(
    options,
    { pool, machine, logger: loggerOf(options, context) },
    async (one) => {
      const usable = (await one.instances()).find(isUsable);
      if (usable === undefined) throw noMachine(machine);
      const { externalAddress, port, username, key } = await one.connectInfo(usable.id);
      const privateKey = Buffer.from(key).toString();
      const target = { address: externalAddress, port, username, privateKey, hostKey: undefined };
      if (script && path !== undefined) return runSession(target, runScript(args), createReadStream(path));
      const command = words.length === 0 ? undefined : words.join(" ");
      // The runner's own input is none of the job's.
      return runSession(target, command, isJob(process.env) ? Readable.from([]) : undefined);
    },
  );
  if (exitCode === 0) return EXIT.ok;
  const codeFile = process.env["BUILD_EXIT_CODE_FILE"];
  if (codeFile !== undefined) await writeFile(codeFile, String(exitCode));
  return failureCodes(process.env).build(exitCode);
});

/** Not by standard input: whatever in it reads that would swallow the rest. It has the job's secrets, so nobody else reads it. */
function runScript(args: readonly string[]): string {
  const words = args.map((word) => `'${word.replaceAll("'", "'\\''")}'`).join(" ");
  return `umask 077 && f=$(mktemp) && cat >"$f" && { bash "$f" ${words} </dev/null; s=$?; rm -f "$f"; exit $s; }`;
}

/** Gives the machine back; that there is none is no failure. */
export const cleanup: CliCommand<MachineOptions> = stage(async (options, context) => {
  const machine = named(options);
  const pool = poolOfMachine(machine, await askForStatus(options));
  if (pool === undefined) return EXIT.ok;
  await withMachine(options, { pool, machine, logger: loggerOf(options, context) }, async (one) => {
    await one.release((await one.instances()).map(({ id }) => id));
  });
  return EXIT.ok;
});

function named(options: MachineOptions): string {
  const { machine } = jobOf(options, process.env);
  if (machine !== undefined) return machine;
  throw new FleetingdError("INVALID_ARGUMENT", "which machine is meant is not said.", {
    hint: "Name it with --machine; in a job the runner sets CUSTOM_ENV_CI_JOB_ID.",
  });
}

function noMachine(machine: string): FleetingdError {
  return new FleetingdError("NOT_FOUND", `there is no machine ${machine}, or it is ready no more.`, {
    hint: "`fleetingd executor prepare` makes it; `fleetingd events` says what has become of it.",
  });
}

function loggerOf({ debug }: MachineOptions, context: CliContext): Logger {
  return createLogger({
    format: "text",
    level: debug ? "debug" : "warn",
    write: (line) => context.errRaw(line),
  });
}

/** Every failure that is not the job's own is the system's, in the runner's words. */
function stage<Options extends MachineOptions>(work: CliCommand<Options>): CliCommand<Options> {
  return async (options, context) => {
    try {
      return await work(options, context);
    } catch (error) {
      const { system } = failureCodes(process.env);
      context.err(`fleetingd: ${error instanceof FleetingdError ? describeError(error) : messageOf(error)}`);
      return error instanceof NoDaemonError && system === EXIT.failed ? EXIT.noDaemon : system;
    }
  };
}
