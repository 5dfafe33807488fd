/** The fleeting plugin: GitLab Runner starts it, once for each `[[runners]]` entry. */
import "./stdout-guard.ts";
import { describeError, systemErrorCode } from "../errors.ts";
import { createLogger } from "../log.ts";
import { VERSION } from "../version.ts";
import { parseArguments, USAGE } from "./arguments.ts";
import { bootstrap } from "./bootstrap.ts";
import { licensesText } from "./own-files.ts";
import { readHostRequest } from "./protocol.ts";
import { serve } from "./serve.ts";

const NOT_A_COMMAND = `This is a plugin: GitLab Runner starts it and speaks to it; there is nothing to see here.
Name it in the runner's config.toml, in [runners.autoscaler]: plugin = "fleeting-plugin-fleetingd".
To look at the VMs use "fleetingd status"; for this program's commands use --help.
`;

async function main(): Promise<number> {
  const command = parseArguments(process.argv.slice(2));
  switch (command?.name) {
    case undefined:
      process.stderr.write(USAGE);
      return 2;
    case "help":
      return print(USAGE);
    case "version":
      return print(`fleeting-plugin-fleetingd ${VERSION}\n`);
    case "licenses":
      return print(await licensesText());
    case "bootstrap":
      return print(`${await bootstrap(command.repository, VERSION, process.env)}\n`);
    case "serve":
      return servePlugin();
  }
}

async function servePlugin(): Promise<number> {
  const request = readHostRequest(process.env);
  if (request === undefined) {
    process.stderr.write(NOT_A_COMMAND);
    return 1;
  }
  const logger = createLogger({ format: "hclog", level: "debug" });
  // The runner was killed and nobody reads any more; the plugin's end has its own watch.
  for (const stream of [process.stdout, process.stderr]) stream.on("error", () => undefined);
  // There is no state here to be spoilt, and the runner never starts a plugin again: it goes on.
  process.on("unhandledRejection", (reason) => logger.error(`unhandled: ${describeError(reason)}`));
  process.on("uncaughtException", (error) => logger.error(`unhandled: ${describeError(error)}`));
  try {
    await serve(request, logger);
    return 0;
  } catch (error) {
    logger.error(describeError(error));
    return 1;
  }
}

function print(text: string): Promise<number> {
  return new Promise((resolve, reject) => {
    // `licenses | head`: the reader has what it wanted.
    const settle = (error?: Error | null): void =>
      error && systemErrorCode(error) !== "EPIPE" ? reject(error) : resolve(0);
    process.stdout.on("error", settle);
    process.stdout.write(text, settle);
  });
}

main().then(
  (code) => process.exit(code),
  (error: unknown) => {
    process.stderr.write(`fleeting-plugin-fleetingd: ${describeError(error)}\n`);
    process.exit(1);
  },
);
