/** What Incus says when something fails, and what that means: much of it arrives as text only, with a status that says nothing. */

import { type ErrorCode, FleetingdError, messageOf } from "../../errors.ts";
import { ApiError } from "../../host/api-client.ts";

const LIMIT =
  /limits?\.(instances|containers|virtual-machines|cpu|memory|disk)|(?:instance|project).{0,60}limit|reached maximum|quota|no space left/i;
const MISSING =
  /not found|couldn't find|does(?:n't| not) exist|no such|invalid|unknown|not supported|requires|failed to find/i;

/** The text of an error's body. */
export function explainIncus(_status: number, body: string): string | undefined {
  try {
    const parsed: unknown = JSON.parse(body);
    if (
      typeof parsed === "object" &&
      parsed !== null &&
      "error" in parsed &&
      typeof parsed.error === "string"
    ) {
      return parsed.error;
    }
    return undefined;
  } catch {
    // Whatever answered, Incus was it not.
    return undefined;
  }
}

/** Why an instance could not be made. */
export function createFailure(
  error: unknown,
  what: { server: string; id: string; project: string },
): unknown {
  const isOurs = error instanceof ApiError || error instanceof OperationError;
  if (!isOurs) return error;
  const text = error instanceof ApiError ? (explainIncus(0, error.body) ?? error.message) : error.message;
  const { code, hint } = meaningOf(text, error, what.project);
  return new FleetingdError(code, `${what.server} did not make ${what.id}: ${text}`, { hint, cause: error });
}

function meaningOf(text: string, error: FleetingdError, project: string): { code: ErrorCode; hint?: string } {
  if (LIMIT.test(text)) {
    return {
      code: "EXHAUSTED",
      hint: `Raise that limit of the project ${project}, or lower the source's max_instances.`,
    };
  }
  if (error.code === "PERMISSION") {
    return {
      code: "PERMISSION",
      hint: "The server has to trust the client certificate, for this project: `incus config trust list`.",
    };
  }
  if (error instanceof ApiError && (error.status === undefined || error.status >= 500))
    return { code: "UNAVAILABLE" };
  if (MISSING.test(text)) return { code: "INVALID_CONFIG" };
  return { code: error instanceof ApiError ? error.code : "HYPERVISOR_FAILED" };
}

/** An operation that the server had accepted, and that failed: HYPERVISOR_FAILED. */
export class OperationError extends FleetingdError {
  constructor(message: string) {
    super("HYPERVISOR_FAILED", message);
  }
}

/** Whether what was asked for can't be done only because something else is being done to the instance. */
export function isBusy(error: unknown): boolean {
  return /busy|operation in progress|already (?:in progress|running)|currently/i.test(messageOf(error));
}
