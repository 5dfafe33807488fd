/** Runs other programs: argument vectors only, always with a deadline, always reaped. */
import { execa } from "execa";
import { FleetingdError, isMissingProgram, systemErrorCode } from "../errors.ts";

export interface RunOptions {
  /** How long the program may take; it is killed after that. Default 30 s. */
  timeoutMs?: number;
  signal?: AbortSignal | undefined;
  /** What it reads from standard input; empty by default. */
  input?: string | Uint8Array;
  cwd?: string;
  /** Added to this process's environment. */
  env?: Readonly<Record<string, string>>;
  /** Exit codes that are an answer rather than a failure; only 0 by default. */
  acceptedExitCodes?: readonly number[];
  /** Called with each line of standard error as it comes. */
  onLine?: (line: string) => void;
}

export interface RunResult {
  exitCode: number;
  stdout: string;
  stderr: string;
}

const DEFAULT_TIMEOUT_MS = 30_000;
const KILL_AFTER_MS = 2_000;
const MAX_OUTPUT_BYTES = 16 * 1024 * 1024;
const SHOWN_STDERR_LINES = 12;

/**
 * Runs `file` with `args` until it ends.
 * @throws FleetingdError MISSING_PROGRAM, TIMEOUT, CANCELLED or COMMAND_FAILED; the message says reason,
 *   command and the last lines of standard error, in that order.
 */
export async function run(
  file: string,
  args: readonly string[],
  options: RunOptions = {},
): Promise<RunResult> {
  const timeoutMs = options.timeoutMs ?? DEFAULT_TIMEOUT_MS;
  const child = execa(file, args, {
    timeout: timeoutMs,
    reject: false,
    forceKillAfterDelay: KILL_AFTER_MS,
    maxBuffer: MAX_OUTPUT_BYTES,
    ...(options.input === undefined ? { stdin: "ignore" as const } : { input: options.input }),
    ...(options.signal === undefined ? {} : { cancelSignal: options.signal }),
    ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
    ...(options.env === undefined ? {} : { env: options.env }),
  });
  const lines = options.onLine ? forwardLines(child.iterable({ from: "stderr" }), options.onLine) : undefined;
  const result = await child;
  await lines;
  if (result.exitCode !== undefined && (options.acceptedExitCodes ?? [0]).includes(result.exitCode)) {
    return { exitCode: result.exitCode, stdout: text(result.stdout), stderr: text(result.stderr) };
  }
  throw failure(file, args, result, timeoutMs);
}

async function forwardLines(lines: AsyncIterable<unknown>, onLine: (line: string) => void): Promise<void> {
  try {
    for await (const line of lines) onLine(String(line));
  } catch {
    // The stream breaks when the program is killed; `run` itself reports how the program ended.
    return;
  }
}

/** The part of execa's result that tells why a program did not end well. */
interface Outcome {
  timedOut: boolean;
  isCanceled: boolean;
  exitCode?: number | undefined;
  signal?: string | undefined;
  stderr?: unknown;
}

function failure(file: string, args: readonly string[], result: Outcome, timeoutMs: number): FleetingdError {
  const command = [file, ...args].map(quote).join(" ");
  const cause = result instanceof Error ? result : undefined;
  if (result.timedOut) {
    return new FleetingdError(
      "TIMEOUT",
      `timed out after ${timeoutMs / 1000} s: ${command}${tail(result.stderr)}`,
      { cause },
    );
  }
  if (result.isCanceled) return new FleetingdError("CANCELLED", `cancelled: ${command}`, { cause });
  if (isMissingProgram(result, file) && result.exitCode === undefined) {
    return new FleetingdError("MISSING_PROGRAM", `the program ${file} was not found on PATH`, {
      hint: `Install the package that has ${file}.`,
      cause,
    });
  }
  const reason =
    result.signal !== undefined
      ? `ended by ${result.signal}`
      : result.exitCode !== undefined
        ? `failed with exit code ${result.exitCode}`
        : `could not run (${systemErrorCode(result) ?? "unknown reason"})`;
  return new FleetingdError("COMMAND_FAILED", `${reason}: ${command}${tail(result.stderr)}`, { cause });
}

function tail(stderr: unknown): string {
  const lines = text(stderr).trimEnd().split("\n").slice(-SHOWN_STDERR_LINES).join("\n");
  return lines === "" ? "" : `\n${lines}`;
}

function text(output: unknown): string {
  return typeof output === "string" ? output : "";
}

function quote(word: string): string {
  return /^[\w@%+=:,./-]+$/.test(word) ? word : JSON.stringify(word);
}
