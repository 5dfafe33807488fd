/** What GitLab Runner's custom executor tells a driver: by variables, and in its arguments by way of the runner's configuration. */
import { randomBytes } from "node:crypto";
import { FleetingdError } from "../../errors.ts";
import { EXIT, type GlobalOptions } from "../context.ts";

export interface MachineOptions extends GlobalOptions {
  /** By hand: the machine's name. */
  machine?: string;
  /** The pool, or the image, of which a machine is wanted. */
  distro?: string;
  debug?: boolean;
}

export interface Job {
  /** Names the machine from `prepare` to `cleanup`; undefined by hand, where nobody gave one. */
  machine: string | undefined;
  distro: string | undefined;
}

type Environment = Readonly<Record<string, string | undefined>>;

/** Whether GitLab Runner has started us, and not a person. */
export function isJob(env: Environment): boolean {
  return env["CUSTOM_ENV_CI_JOB_ID"] !== undefined;
}

const MACHINE_NAME = /^[A-Za-z0-9._-]{1,64}$/;

/**
 * The job's own variables go before what the runner's configuration says.
 * @throws FleetingdError INVALID_ARGUMENT
 */
export function jobOf(options: Pick<MachineOptions, "machine" | "distro">, env: Environment): Job {
  const id = env["CUSTOM_ENV_CI_JOB_ID"];
  const machine = id === undefined ? options.machine : `job-${id}`;
  if (machine !== undefined && !MACHINE_NAME.test(machine)) {
    throw new FleetingdError(
      "INVALID_ARGUMENT",
      `${JSON.stringify(machine)} can't be the name of a machine.`,
      {
        hint: "It has 1 to 64 of a-z, A-Z, 0-9, ., _ and -.",
      },
    );
  }
  return { machine, distro: env["CUSTOM_ENV_DISTRO"] ?? options.distro };
}

export function randomMachineName(): string {
  return `by-hand-${randomBytes(4).toString("hex")}`;
}

/** How the runner wants to be told of failures; by hand the usual codes. */
export interface FailureCodes {
  /** The job's own commands failed with this code. */
  build(exitCode: number): number;
  /** Anything else; the runner tries the job elsewhere or again. */
  system: number;
}

export function failureCodes(env: Environment): FailureCodes {
  const build = numberOf(env["BUILD_FAILURE_EXIT_CODE"]);
  return {
    build: (exitCode) => build ?? exitCode,
    system: numberOf(env["SYSTEM_FAILURE_EXIT_CODE"]) ?? EXIT.failed,
  };
}

function numberOf(text: string | undefined): number | undefined {
  const number = Number(text);
  return Number.isInteger(number) && number > 0 && number < 256 ? number : undefined;
}
