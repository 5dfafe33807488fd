/**
 * Asks libvirt by its own program: it speaks every transport (SSH, TLS, SASL) as the administrator has set it up, where a client
 * of libvirt's protocol would have to speak them all anew for the sake of numeric error codes.
 */
import { FleetingdError } from "../../errors.ts";
import { run } from "../../host/run.ts";
import { errorOf, type Failure, failuresIn } from "./errors.ts";

export type Command = readonly string[];

export interface AskOptions {
  signal: AbortSignal | undefined;
  /** How long all of it may take. Default: the request's time for each command. */
  timeoutMs?: number;
  /** Failures that are an answer, too. */
  ignore?: (failure: Failure) => boolean;
}

/** Printed between the answers. */
const SEPARATOR = "=fleetingd=";

export class Virsh {
  readonly #uri: string;
  readonly #description: string;
  readonly #requestTimeoutMs: number;

  constructor(options: { uri: string; description: string; requestTimeoutMs: number }) {
    this.#uri = options.uri;
    this.#description = options.description;
    this.#requestTimeoutMs = options.requestTimeoutMs;
  }

  /**
   * Runs commands one after the other in one connection; also those after one that fails.
   * @returns what each has printed
   * @throws FleetingdError of the first failure; UNAVAILABLE if there is no answer in time
   */
  async ask(commands: readonly Command[], { signal, timeoutMs, ignore }: AskOptions): Promise<string[]> {
    const script = commands.map(quoted).join(`; echo ${SEPARATOR}; `);
    const limitMs = timeoutMs ?? this.#requestTimeoutMs * commands.length;
    const { exitCode, stdout, stderr } = await this.#run(script, limitMs, signal);
    const failures = failuresIn(stderr);
    const failure = failures.find((failure) => ignore?.(failure) !== true);
    if (failure !== undefined) throw errorOf(failure, this.#description);
    const answers = stdout.split(SEPARATOR).map((text) => text.trim());
    const isWhole = answers.length === commands.length && (exitCode === 0 || failures.length > 0);
    if (isWhole) return answers;
    throw new FleetingdError(
      "UNAVAILABLE",
      `${this.#description} gave no whole answer: ${stderr.trim() || stdout.trim()}`,
    );
  }

  async #run(script: string, timeoutMs: number, signal: AbortSignal | undefined) {
    try {
      const args = ["--quiet", "--connect", this.#uri, script];
      return await run("virsh", args, {
        timeoutMs,
        signal,
        env: { LC_ALL: "C" },
        acceptedExitCodes: [0, 1],
      });
    } catch (error) {
      if (!(error instanceof FleetingdError) || error.code === "CANCELLED") throw error;
      if (error.code === "MISSING_PROGRAM") {
        throw new FleetingdError("UNAVAILABLE", error.message, {
          hint: "Install virsh; Debian and Ubuntu have it in the package libvirt-clients.",
          cause: error,
        });
      }
      const reason =
        error.code === "TIMEOUT"
          ? `gave no answer within ${timeoutMs / 1000} s (request_timeout)`
          : `can't be asked: ${error.message}`;
      throw new FleetingdError("UNAVAILABLE", `${this.#description} ${reason}`, { cause: error });
    }
  }
}

/** As virsh's own little language has it: every word in double quotes. */
function quoted(command: Command): string {
  return command.map((word) => `"${word.replace(/["\\]/g, "\\$&")}"`).join(" ");
}
