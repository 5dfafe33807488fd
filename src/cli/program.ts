/**
 * The command line. Each command is a file of its own and loaded only when it is called, so that the quick ones
 * are quick. Results go to standard output, everything else to standard error.
 */
import { resolve } from "node:path";
import { Command, CommanderError } from "commander";
import { DEFAULT_CONFIG_PATH } from "../config/paths.ts";
import { describeError, FleetingdError, systemErrorCode } from "../errors.ts";
import {
  type CliContext,
  type CommandLoader,
  type DemoOptions,
  EXIT,
  exitCodeOf,
  type GlobalOptions,
  type ReadOptions,
  type Runner,
  type ServeOptions,
} from "./context.ts";
import type { DrainOptions } from "./drain.ts";
import { addExecutor } from "./executor/commands.ts";
import type { GcOptions } from "./gc.ts";
import type { PurgeOptions } from "./purge.ts";
import { addWatchCommands } from "./watch-commands.ts";

export interface CliSetup {
  version: string;
  /** The commands that need the whole daemon come from the composition root; without them they are not offered. */
  serve?: CommandLoader<ServeOptions>;
  demo?: CommandLoader<DemoOptions>;
}

const DEMO_DIRECTORY = "/var/cache/fleetingd-demo";

/**
 * Runs the command that `argv` (without Node's path and the script's) asks for, and tells the user what it throws.
 * @returns The exit code: 0 done, 1 failed, 2 wrong usage or a bad configuration, 3 no daemon.
 */
export async function runCli(argv: readonly string[], setup: CliSetup): Promise<number> {
  const context = processContext(setup.version);
  endQuietlyWithReader();
  let exitCode: number = EXIT.ok;
  const program = buildProgram(setup, async (load, options) => {
    const command = await load();
    exitCode = await command(options, context);
  });
  try {
    await program.parseAsync(argv, { from: "user" });
    return exitCode;
  } catch (error) {
    // Commander has told the user already; help that was asked for is no error.
    if (error instanceof CommanderError) return error.exitCode === 0 ? EXIT.ok : EXIT.usage;
    tell(error, context);
    return exitCodeOf(error);
  }
}

export function buildProgram(setup: CliSetup, run: Runner): Command {
  const program = new Command("fleetingd")
    .description("Turns this host into a pool of disposable CI machines for GitLab Runner.")
    .version(`fleetingd ${setup.version}`, "-V, --version", "print the version")
    .option("--config <path>", "the configuration file", DEFAULT_CONFIG_PATH)
    .option("--socket <path>", "the daemon's socket (default: what the configuration says)")
    .showHelpAfterError("Run `fleetingd --help` for how it is used.")
    .exitOverride();
  const { serve, demo } = setup;
  if (serve !== undefined) {
    program
      .command("serve")
      .description("run the daemon")
      .option("--ephemeral", "remove every VM at the end instead of leaving them to the next daemon", false)
      .action((_, command: Command) => run(serve, command.optsWithGlobals<ServeOptions>()));
  }
  addDaemonCommands(program, run);
  addWatchCommands(program, run);
  addImageCommands(program, run);
  addArchive(program, run);
  addDrain(program, run);
  addLocalCommands(program, run);
  addExecutor(program, run);
  if (demo !== undefined) {
    program
      .command("demo")
      .description("show the whole way from an image to a job, in a network of its own")
      .option(
        "--directory <path>",
        "where images are kept from one run to the next",
        (path) => resolve(path),
        DEMO_DIRECTORY,
      )
      .action((_, command: Command) => run(demo, command.optsWithGlobals<DemoOptions>()));
  }
  return program;
}

function addDaemonCommands(program: Command, run: Runner): void {
  program
    .command("status")
    .description("show the daemon, its pools and its instances")
    .option("--json", "as JSON")
    .action((_, command: Command) =>
      run(async () => (await import("./status.ts")).status, command.optsWithGlobals<ReadOptions>()),
    );
  program
    .command("metrics")
    .description("print the daemon's metrics in Prometheus' text format")
    .action((_, command: Command) =>
      run(async () => (await import("./metrics.ts")).metrics, command.optsWithGlobals<GlobalOptions>()),
    );
  program
    .command("prebuild")
    .description("make a new golden image, of one pool or of all, and print its name")
    .argument("[pool]", "the pool's name (default: every pool)")
    .option("--force", "also if nothing has changed since the last one", false)
    .action((pool: string | undefined, _, command: Command) =>
      run(async () => (await import("./prebuild.ts")).prebuild, {
        ...command.optsWithGlobals<GlobalOptions & { force: boolean }>(),
        pool,
      }),
    );
}

function addImageCommands(program: Command, run: Runner): void {
  program
    .command("images")
    .description("list golden and base images with their age, size and users")
    .option("--json", "as JSON")
    .action((_, command: Command) =>
      run(async () => (await import("./images.ts")).images, command.optsWithGlobals<ReadOptions>()),
    );
  program
    .command("gc")
    .description("remove images that no VM and no pool needs")
    .option("--dry-run", "only say what would be removed", false)
    .option("--json", "as JSON")
    .action((_, command: Command) =>
      run(async () => (await import("./gc.ts")).gc, command.optsWithGlobals<GcOptions>()),
    );
}

function addArchive(program: Command, run: Runner): void {
  const image = program.command("image").description("move images between hosts, as one file");
  for (const [verb, description] of [
    ["export", "write the golden images in use and what they were made of to an archive"],
    ["import", "put the images of an archive in their place, after checking them"],
  ] as const) {
    image
      .command(verb)
      .description(description)
      .argument("<archive>", "a file such as images.tar.zst; its name says how it is compressed")
      .argument("[pool]", "the pool whose directory is meant, where pools have several")
      .action((archive: string, pool: string | undefined, _, command: Command) =>
        run(
          async () => {
            const { imageExport, imageImport } = await import("./image.ts");
            return verb === "export" ? imageExport : imageImport;
          },
          { ...command.optsWithGlobals<GlobalOptions>(), archive, pool },
        ),
      );
  }
}

function addDrain(program: Command, run: Runner): void {
  program
    .command("drain")
    .description("make no more VMs, and wait until the last job has ended")
    .option("--undo", "make VMs again", false)
    .action((_, command: Command) =>
      run(async () => (await import("./drain.ts")).drain, command.optsWithGlobals<DrainOptions>()),
    );
}

function addLocalCommands(program: Command, run: Runner): void {
  program
    .command("purge")
    .description("remove every VM and all that belongs to them, while no daemon runs")
    .option("--images", "the base and golden images, too", false)
    .option("--yes", "yes, delete them", false)
    .action((_, command: Command) =>
      run(async () => (await import("./purge.ts")).purge, command.optsWithGlobals<PurgeOptions>()),
    );
  program
    .command("fetch")
    .description("download or build the base images now; needs no daemon")
    .argument("[pool]", "the pool's name (default: every pool)")
    .action((pool: string | undefined, _, command: Command) =>
      run(async () => (await import("./fetch.ts")).fetch, {
        ...command.optsWithGlobals<GlobalOptions>(),
        pool,
      }),
    );
  program
    .command("config")
    .description("work with the configuration")
    .command("check")
    .description("check the configuration and report every error in it")
    .option("--json", "as JSON, with all values that hold")
    .action((_, command: Command) =>
      run(
        async () => (await import("./config-check.ts")).configCheck,
        command.optsWithGlobals<ReadOptions>(),
      ),
    );
  program
    .command("import-config")
    .description("print what a runner's configuration for another plugin would be here")
    .argument("<file>", "GitLab Runner's config.toml")
    .option("--json", "as JSON")
    .action((file: string, _, command: Command) =>
      run(async () => (await import("./import-config.ts")).importConfig, {
        ...command.optsWithGlobals<ReadOptions>(),
        file,
      }),
    );
  program
    .command("licenses")
    .description("print the licences of this program and of all that is bundled with it")
    .option("--json", "as JSON")
    .action((_, command: Command) =>
      run(async () => (await import("./licenses.ts")).licenses, command.optsWithGlobals<ReadOptions>()),
    );
  program
    .command("version")
    .description("print the versions of this program and of Node.js")
    .option("--json", "as JSON")
    .action((_, command: Command) =>
      run(async () => (await import("./version.ts")).version, command.optsWithGlobals<ReadOptions>()),
    );
}

function processContext(version: string): CliContext {
  return {
    version,
    out: (line) => void process.stdout.write(`${line}\n`),
    outRaw: (text) => void process.stdout.write(text),
    err: (line) => void process.stderr.write(`${line}\n`),
    errRaw: (text) => void process.stderr.write(text),
    terminalColumns: process.stderr.isTTY === true ? process.stderr.columns : undefined,
  };
}

function tell(error: unknown, context: CliContext): void {
  if (!(error instanceof FleetingdError)) {
    context.err(
      `fleetingd: ${error instanceof Error && error.stack !== undefined ? error.stack : String(error)}`,
    );
  } else if (error.code === "INVALID_CONFIG" && error.hint === undefined) {
    context.err(`fleetingd: the configuration is not valid:\n${error.message}`);
  } else {
    context.err(`fleetingd: ${describeError(error)}`);
  }
}

/** `fleetingd status | head -1`: the reader has what it wanted, and that is no failure. */
function endQuietlyWithReader(): void {
  process.stdout.on("error", (error) => {
    if (systemErrorCode(error) === "EPIPE") process.exit(EXIT.ok);
    throw error;
  });
}
