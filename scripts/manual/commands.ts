/** What the command line knows of itself, as a list: manual pages and completions are made from it. */
import type { Command } from "commander";

export interface OptionEntry {
  /** As it is typed: `-f`, `--follow`. */
  names: readonly string[];
  /** `-f, --follow`, `--pool <name>`. */
  flags: string;
  description: string;
  takesValue: boolean;
}

export interface CommandEntry {
  /** Without the program's name; empty for the program itself. */
  path: readonly string[];
  /** `[options] <instance>`. */
  usage: string;
  description: string;
  arguments: readonly { name: string; description: string }[];
  options: readonly OptionEntry[];
  subcommands: readonly string[];
}

/** The program first, then every command below it, parents before their own. */
export function listCommands(command: Command, path: readonly string[] = []): CommandEntry[] {
  const entry: CommandEntry = {
    path,
    usage: command.usage(),
    description: command.description(),
    arguments: command.registeredArguments.map((argument) => ({
      name: argument.name(),
      description: argument.description,
    })),
    options: command.options.map(({ flags, description, short, long, required, optional, ...option }) => ({
      names: [short, long].filter((name) => name !== undefined),
      flags,
      description: withDefault(description, option.defaultValue),
      takesValue: required || optional,
    })),
    subcommands: command.commands.map((one) => one.name()),
  };
  return [entry, ...command.commands.flatMap((one) => listCommands(one, [...path, one.name()]))];
}

function withDefault(description: string, value: unknown): string {
  return value === undefined || value === false ? description : `${description} (default: ${String(value)})`;
}
