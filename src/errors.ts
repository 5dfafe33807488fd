/** What kind of failure this is; callers branch on it, people read the message and the hint. */
export type ErrorCode =
  | "INVALID_CONFIG"
  | "INVALID_ARGUMENT"
  | "NOT_FOUND"
  | "ALREADY_EXISTS"
  | "UNAVAILABLE"
  | "EXHAUSTED"
  | "TIMEOUT"
  | "CANCELLED"
  | "PERMISSION"
  | "MISSING_PROGRAM"
  | "COMMAND_FAILED"
  | "VERIFICATION_FAILED"
  | "PREBUILD_FAILED"
  | "HYPERVISOR_FAILED"
  | "CORRUPT"
  | "INTERNAL";

/**
 * An error that is meant to be read: `message` is one sentence on what was tried and what went wrong,
 * `hint` is what to do about it.
 */
export class FleetingdError extends Error {
  override readonly name = "FleetingdError";
  readonly code: ErrorCode;
  readonly hint: string | undefined;

  constructor(
    code: ErrorCode,
    message: string,
    options: { hint?: string | undefined; cause?: unknown } = {},
  ) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.hint = options.hint;
  }
}

/** The message of anything that was thrown. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** Message and hint of anything that was thrown, as one text for a person. */
export function describeError(error: unknown): string {
  const message = messageOf(error);
  if (!(error instanceof FleetingdError) || error.hint === undefined) return message;
  // A message of many lines ends with what a program said, which is no sentence to go on from.
  if (message.includes("\n")) return `${message}\n${error.hint}`;
  return `${message}${/[.!?:…]$/.test(message) ? "" : "."} ${error.hint}`;
}

/** The code of a system error (`ENOENT`, …), or undefined for any other. */
export function systemErrorCode(error: unknown): string | undefined {
  if (!(error instanceof Error) || !("code" in error)) return undefined;
  return typeof error.code === "string" ? error.code : undefined;
}

/**
 * Whether `file` could not be started because there is no such program. Where a folder of PATH may not be searched, as one of root's
 * by another user, a name that is found nowhere is refused with EACCES (execvp(3)).
 */
export function isMissingProgram(error: unknown, file: string): boolean {
  const code = systemErrorCode(error);
  return code === "ENOENT" || (code === "EACCES" && !file.includes("/"));
}
