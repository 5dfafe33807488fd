/** What Cloud Director says when something fails, and what that means. */
import { type ErrorCode, FleetingdError } from "../../errors.ts";
import { ApiError } from "../../host/api-client.ts";
import { attribute, parseXml, type XmlNode } from "./xml.ts";

interface Complaint {
  message: string;
  /** `BUSY_ENTITY` */
  minor: string;
}

/** Somebody else, or an earlier request of ours, works on the same thing; or on too many things at once. */
const BUSY = /BUSY_ENTITY|OPERATION_LIMITS_EXCEEDED/;
const BUSY_TEXT = /is busy|simultaneous operations|maximum number of (?:simultaneous|concurrent)/i;
const FULL =
  /quota|insufficient|exceed|not enough|no (?:more )?(?:free|available)|no unused|limit .*reached/i;
/** There is no such thing, or it is no business of ours: the server doesn't tell the two apart. */
const MISSING = /ACCESS_TO_RESOURCE_IS_FORBIDDEN|NOT_FOUND/;
const MISSING_TEXT = /does not exist|target entity is invalid|no access to entity/i;

/** A task that the server had accepted, and that failed. */
export class TaskError extends FleetingdError {
  readonly minor: string;

  constructor(operation: string, { message, minor }: Complaint) {
    super(meaningOf({ message, minor }) ?? "HYPERVISOR_FAILED", `"${operation}" failed: ${message}`);
    this.minor = minor;
  }
}

/** What an `<Error>` says. */
export function complaintOf(error: XmlNode | undefined): Complaint {
  return {
    message: attribute(error, "message") ?? "the server does not say why",
    minor: attribute(error, "minorErrorCode") ?? "",
  };
}

/** The text of an error's body. */
export function explainVcd(_status: number, body: string): string | undefined {
  const xml = parseXml(body);
  if (xml?.name === "Error") return complaintOf(xml.node).message;
  try {
    const json: unknown = JSON.parse(body);
    if (typeof json !== "object" || json === null) return undefined;
    const { message, error_description, error } = json as Readonly<Record<string, unknown>>;
    return [message, error_description, error].find((text) => typeof text === "string");
  } catch {
    // Whatever answered, Cloud Director was it not.
    return undefined;
  }
}

export function isBusy(error: unknown): boolean {
  const said = complaint(error);
  return said !== undefined && (BUSY.test(said.minor) || BUSY_TEXT.test(said.message));
}

export function isMissing(error: unknown): boolean {
  if (error instanceof ApiError && error.status === 404) return true;
  const said = complaint(error);
  return said !== undefined && (MISSING.test(said.minor) || MISSING_TEXT.test(said.message));
}

/** Why a machine could not be made. */
export function createFailure(error: unknown, what: { server: string; id: string }): unknown {
  const said = complaint(error);
  if (said === undefined || !(error instanceof FleetingdError)) return error;
  const refused =
    error instanceof ApiError && error.code === "INVALID_ARGUMENT" ? "INVALID_CONFIG" : error.code;
  const code = meaningOf(said) ?? refused;
  const hint =
    code === "EXHAUSTED"
      ? "Raise the data center's limit, or lower the source's max_instances."
      : code === "PERMISSION"
        ? "The token's user needs the rights of a vApp Author in this organization."
        : error.hint;
  return new FleetingdError(code, `${what.server} did not make ${what.id}: ${said.message}`, {
    hint,
    cause: error,
  });
}

function meaningOf({ message, minor }: Complaint): ErrorCode | undefined {
  if (BUSY.test(minor) || BUSY_TEXT.test(message)) return "UNAVAILABLE";
  return FULL.test(message) || /QUOTA|INSUFFICIENT/.test(minor) ? "EXHAUSTED" : undefined;
}

function complaint(error: unknown): Complaint | undefined {
  if (error instanceof TaskError) return { message: error.message, minor: error.minor };
  if (!(error instanceof ApiError)) return undefined;
  const xml = parseXml(error.body);
  return xml?.name === "Error" ? complaintOf(xml.node) : undefined;
}
