/** The commands that watch a daemon and its instances, as the command line knows them. */
import type { Command } from "commander";
import type { GlobalOptions, ReadOptions, Runner } from "./context.ts";
import type { DoctorOptions } from "./doctor.ts";
import type { FollowOptions } from "./follow.ts";
import type { PsOptions } from "./ps.ts";
import { seconds } from "./seconds.ts";
import type { TopOptions } from "./top.ts";

const RUNNER_CONFIG = "/etc/gitlab-runner/config.toml";

export function addWatchCommands(program: Command, run: Runner): void {
  addOverviews(program, run);
  addHistories(program, run);
  addInstanceCommands(program, run);
  addDoctor(program, run);
}

function addDoctor(program: Command, run: Runner): void {
  program
    .command("doctor")
    .description("check this host and the configuration, and say what mends what is wrong")
    .option("--fix", "mend what is safe to mend, after saying what", false)
    .option("--runner-config <path>", "GitLab Runner's configuration", RUNNER_CONFIG)
    .option("--json", "as JSON")
    .action((_, command: Command) =>
      run(async () => (await import("./doctor.ts")).doctor, command.optsWithGlobals<DoctorOptions>()),
    );
}

function addOverviews(program: Command, run: Runner): void {
  program
    .command("ps")
    .description("list the instances")
    .option("--pool <name>", "only of this pool")
    .option("--json", "as JSON")
    .action((_, command: Command) =>
      run(async () => (await import("./ps.ts")).ps, command.optsWithGlobals<PsOptions>()),
    );
  program
    .command("why")
    .description("say in a sentence why a pool has fewer warm VMs than it should")
    .argument("[pool]", "the pool's name (default: every pool)")
    .option("--json", "as JSON")
    .action((pool: string | undefined, _, command: Command) =>
      run(async () => (await import("./why.ts")).why, { ...command.optsWithGlobals<ReadOptions>(), pool }),
    );
  program
    .command("top")
    .description("show pools and instances, live")
    .option("--interval <seconds>", "how often it is drawn anew", seconds, 1)
    .action((_, command: Command) =>
      run(async () => (await import("./top.ts")).top, command.optsWithGlobals<TopOptions>()),
    );
}

function addHistories(program: Command, run: Runner): void {
  program
    .command("events")
    .description("show what has happened lately, of one instance or all")
    .argument("[instance]", "the instance's id (default: everything)")
    .option("-f, --follow", "go on with what happens")
    .option("--json", "as JSON, an object a line")
    .action((instance: string | undefined, _, command: Command) =>
      run(async () => (await import("./events.ts")).events, {
        ...command.optsWithGlobals<FollowOptions>(),
        instance,
      }),
    );
  program
    .command("logs")
    .description("show the daemon's newest log lines, of one instance or all")
    .argument("[instance]", "the instance's id (default: all lines)")
    .option("-f, --follow", "go on with what is logged")
    .option("--json", "as JSON, an object a line")
    .action((instance: string | undefined, _, command: Command) =>
      run(async () => (await import("./logs.ts")).logs, {
        ...command.optsWithGlobals<FollowOptions>(),
        instance,
      }),
    );
  program
    .command("explain")
    .description("tell the life of an instance, step by step, also of one that is gone")
    .argument("<instance>", "the instance's id")
    .option("--json", "as JSON")
    .action((instance: string, _, command: Command) =>
      run(async () => (await import("./explain.ts")).explain, {
        ...command.optsWithGlobals<ReadOptions>(),
        instance,
      }),
    );
}

function addInstanceCommands(program: Command, run: Runner): void {
  program
    .command("console")
    .description("print what an instance's console has shown; needs root")
    .argument("<instance>", "the instance's id")
    .option("-f, --follow", "go on until the instance is gone")
    .action((instance: string, _, command: Command) =>
      run(async () => (await import("./console.ts")).vmConsole, {
        ...command.optsWithGlobals<FollowOptions>(),
        instance,
      }),
    );
  program
    .command("remove")
    .description("end an instance, whoever has it: the pool makes another one, a job on it fails")
    .argument("<instance>", "the instance's id")
    .action((instance: string, _, command: Command) =>
      run(async () => (await import("./remove.ts")).remove, {
        ...command.optsWithGlobals<GlobalOptions>(),
        instance,
      }),
    );
  program
    .command("ssh")
    .description("log in to an instance, or run a command in it; needs root")
    .argument("<instance>", "the instance's id")
    .argument("[command...]", "what to run instead of a shell")
    .action((instance: string, words: string[], _, command: Command) =>
      run(async () => (await import("./ssh.ts")).ssh, {
        ...command.optsWithGlobals<ReadOptions>(),
        instance,
        command: words,
      }),
    );
}
