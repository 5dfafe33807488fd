/** What every command gets besides its own options. */
import { FleetingdError } from "../errors.ts";

export interface CliContext {
  version: string;
  /** Writes a line to standard output: results. */
  out(line: string): void;
  /** Writes to standard output as it is. */
  outRaw(text: string): void;
  /** Writes a line to standard error: progress, notes and errors. */
  err(line: string): void;
  /** Writes to standard error as it is. */
  errRaw(text: string): void;
  /** How wide the terminal behind standard error is; undefined if there is none. */
  terminalColumns: number | undefined;
}

/** Options that every command takes. */
export interface GlobalOptions {
  /** `--config PATH`; the usual place if nobody named another. */
  config: string;
  /** `--socket PATH`; undefined: what the configuration says. */
  socket?: string;
}

/** Options of the commands that only read. */
export interface ReadOptions extends GlobalOptions {
  json?: boolean;
}

export interface ServeOptions extends GlobalOptions {
  /** Removes every VM at the end instead of leaving them to the next daemon. */
  ephemeral: boolean;
}

export interface DemoOptions extends GlobalOptions {
  /** Where images are kept from one run to the next. */
  directory: string;
}

/** A command: does its work and answers with the exit code. What it throws is told to the user. */
export type CliCommand<Options = GlobalOptions> = (options: Options, context: CliContext) => Promise<number>;

/** Loads a command's file and gives its function. */
export type CommandLoader<Options> = () => Promise<CliCommand<Options>>;

/** Runs the command that was asked for. */
export type Runner = <Options>(load: CommandLoader<Options>, options: Options) => Promise<void>;

export const EXIT = { ok: 0, failed: 1, usage: 2, noDaemon: 3 } as const;

/** There is no daemon to talk to, or no way to it. */
export class NoDaemonError extends FleetingdError {
  constructor(message: string, hint: string, cause?: unknown) {
    super("UNAVAILABLE", message, { hint, cause });
  }
}

/** The exit code that an error means. */
export function exitCodeOf(error: unknown): number {
  if (error instanceof NoDaemonError) return EXIT.noDaemon;
  if (error instanceof FleetingdError && error.code === "INVALID_CONFIG") return EXIT.usage;
  return EXIT.failed;
}
