/** The command line of the benchmarks. */
import { Command, CommanderError } from "commander";
import { FleetingdError } from "../src/errors.ts";

export interface BenchOptions {
  /** Where the numbers go as JSON. */
  jsonPath: string | undefined;
  /** The names to measure, of all that there are. */
  names: ReadonlySet<string>;
  /** How often each is run; undefined: as often as it says itself. */
  runs: number | undefined;
}

/**
 * @param allNames every name that can be measured
 * @returns the options, or the text of the help if that was asked for
 * @throws FleetingdError INVALID_ARGUMENT with one sentence
 */
export function parseOptions(argv: readonly string[], allNames: readonly string[]): BenchOptions | string {
  let help = "";
  const command = createCommand(allNames, (text) => {
    help += text;
  });
  try {
    command.parse(argv, { from: "user" });
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error;
    if (error.exitCode === 0) return help;
    throw usage(error.message.replace(/^error: /, ""));
  }
  const [word] = command.args;
  if (word !== undefined) throw usage(`unexpected argument '${word}'`);
  const { json, only, runs } = command.opts<{ json?: string; only?: string; runs?: string }>();
  return { jsonPath: json, names: chooseNames(only, allNames), runs: parseRuns(runs) };
}

function createCommand(allNames: readonly string[], writeOut: (text: string) => void): Command {
  return new Command("npm run bench --")
    .description("Measures fleetingd with real VMs, in namespaces of its own; needs root.")
    .option("--only <names>", "measure only the names that begin so, for example: boot.cold,claim")
    .option("--runs <n>", "run each of them n times")
    .option("--json <file>", "also write the numbers to this file")
    .addHelpText("after", `\nNames:\n${allNames.map((name) => `  ${name}`).join("\n")}`)
    .allowExcessArguments()
    .showSuggestionAfterError(false)
    .configureOutput({ writeOut, writeErr: () => undefined })
    .exitOverride();
}

function chooseNames(only: string | undefined, allNames: readonly string[]): ReadonlySet<string> {
  if (only === undefined) return new Set(allNames);
  const chosen = only.split(",").flatMap((prefix) => {
    const matching = prefix === "" ? [] : allNames.filter((name) => name.startsWith(prefix));
    if (matching.length > 0) return matching;
    throw usage(`no name begins with '${prefix}' (--help lists them)`);
  });
  return new Set(chosen);
}

function parseRuns(text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  if (/^[1-9]\d{0,3}$/.test(text)) return Number(text);
  throw usage(`--runs takes a whole number from 1 to 9999, not '${text}'`);
}

function usage(message: string): FleetingdError {
  return new FleetingdError("INVALID_ARGUMENT", message);
}
