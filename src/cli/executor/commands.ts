/** `fleetingd executor`: a driver for GitLab Runner's custom executor, as the command line knows it. */
import type { Command } from "commander";
import type { Runner } from "../context.ts";
import { seconds } from "../seconds.ts";
import type { MachineOptions } from "./job.ts";
import type { ConfigOptions, PrepareOptions, RunOptions } from "./stages.ts";

const PREPARE_SECONDS = 1_800;

export function addExecutor(program: Command, run: Runner): void {
  const executor = program
    .command("executor")
    .description("run jobs of GitLab Runner's custom executor in instances of a pool")
    .option("--debug", "say more on standard error")
    .enablePositionalOptions();
  executor
    .command("config")
    .description("tell the runner about the driver, in JSON")
    .option("--builds-dir <path>", "where jobs are built in the machine")
    .option("--cache-dir <path>", "where their caches are in the machine")
    .action((_, command: Command) =>
      run(async () => (await import("./stages.ts")).config, command.optsWithGlobals<ConfigOptions>()),
    );
  machineCommand(executor, "prepare", "claim a machine, and wait until it is ready")
    .option("-d, --distro <name>", "a pool, or the image of one (default: the pool `default`)")
    .option("--timeout <seconds>", "how long to wait for the machine", seconds, PREPARE_SECONDS)
    .action((_, command: Command) =>
      run(async () => (await import("./stages.ts")).prepare, command.optsWithGlobals<PrepareOptions>()),
    );
  machineCommand(executor, "run", "run a script or a command in the machine, or by hand a shell")
    .option("--script", "the first word is a script of this host, the others are its arguments", false)
    .argument("[words...]", "the script or command, and its arguments")
    // What is behind the command is its own.
    .passThroughOptions()
    .action((words: string[], _, command: Command) =>
      run(async () => (await import("./stages.ts")).run, { ...command.optsWithGlobals<RunOptions>(), words }),
    );
  machineCommand(executor, "cleanup", "give the machine back").action((_, command: Command) =>
    run(async () => (await import("./stages.ts")).cleanup, command.optsWithGlobals<MachineOptions>()),
  );
}

function machineCommand(executor: Command, name: string, description: string): Command {
  return executor
    .command(name)
    .description(description)
    .option("-m, --machine <name>", "the machine, where no job names it")
    .option("--ssh-key-file <path>", "has no effect: each machine has a key of its own");
}
