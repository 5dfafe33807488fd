/** Tasks: most requests only begin something. */
import { FleetingdError } from "../../errors.ts";
import { sleep } from "../../host/wait.ts";
import { complaintOf, TaskError } from "./errors.ts";
import type { Session } from "./session.ts";
import { attribute, child, children, type XmlNode } from "./xml.ts";

const RUNNING = new Set(["queued", "preRunning", "running"]);
const FIRST_PAUSE_MS = 100;
const LONGEST_PAUSE_MS = 5_000;
const GROWTH = 1.5;

/**
 * Resolves when it succeeded. A server that is away is waited for.
 * @throws TaskError if it failed or was cancelled, ApiError, and when aborted: why there was no answer, or CANCELLED
 */
export async function waitForTask(session: Session, task: XmlNode, signal: AbortSignal): Promise<void> {
  const path = attribute(task, "href") ?? "";
  let latest = task;
  let away: unknown;
  for (
    let pauseMs = FIRST_PAUSE_MS;
    isRunning(latest);
    pauseMs = Math.min(LONGEST_PAUSE_MS, pauseMs * GROWTH)
  ) {
    await sleep(pauseMs, signal).catch((error: unknown) => {
      throw away ?? error;
    });
    try {
      latest = await session.request({ method: "GET", path, signal });
      away = undefined;
    } catch (error) {
      if (!(error instanceof FleetingdError) || error.code !== "UNAVAILABLE") throw error;
      away = error;
    }
  }
  if (attribute(latest, "status") === "success") return;
  throw new TaskError(attribute(latest, "operation") ?? "a task", complaintOf(child(latest, "Error")));
}

/** What is being done to a thing. */
export function runningTasks(entity: XmlNode): XmlNode[] {
  return children(child(entity, "Tasks"), "Task").filter(isRunning);
}

function isRunning(task: XmlNode): boolean {
  return RUNNING.has(attribute(task, "status") ?? "");
}
