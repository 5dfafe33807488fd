/** Answers of the daemon that are JSON. */
import { FleetingdError } from "../errors.ts";
import type { DaemonClient } from "../gen/fleetingd.ts";
import type { GlobalOptions } from "./context.ts";
import { callError, withDaemon } from "./daemon-client.ts";

/**
 * Asks the daemon and understands its answer.
 * @param listNames fields of the answer that have to be lists: a daemon of another version may have others
 * @throws FleetingdError INTERNAL if it cannot be understood, and what the call throws
 */
export async function askForJson<Answer extends object>(
  options: GlobalOptions,
  call: (client: DaemonClient, timeoutMs: number) => Promise<{ json: string }>,
  listNames: readonly (keyof Answer & string)[],
  timeoutMs: number,
): Promise<Answer> {
  const json = await withDaemon(options, async (client) => {
    try {
      return (await call(client, timeoutMs)).json;
    } catch (error) {
      throw callError(error, timeoutMs);
    }
  });
  return parseAnswer(json, listNames);
}

function parseAnswer<Answer extends object>(
  json: string,
  listNames: readonly (keyof Answer & string)[],
): Answer {
  try {
    const answer: unknown = JSON.parse(json);
    if (hasLists<Answer>(answer, listNames)) return answer;
  } catch (error) {
    throw notUnderstood(error);
  }
  throw notUnderstood(undefined);
}

function hasLists<Answer extends object>(
  answer: unknown,
  names: readonly (keyof Answer & string)[],
): answer is Answer {
  if (typeof answer !== "object" || answer === null) return false;
  const fields = new Map<string, unknown>(Object.entries(answer));
  return names.every((name) => Array.isArray(fields.get(name)));
}

function notUnderstood(cause: unknown): FleetingdError {
  return new FleetingdError("INTERNAL", "the daemon's answer cannot be understood.", {
    hint: "Are the daemon and this program of the same version? Restart the daemon after an update.",
    cause,
  });
}
