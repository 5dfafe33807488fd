/** Events as the page tells of them: pure. */
import type { LoggedEvent } from "../api/events.ts";
import { formatAge, formatBytes } from "../api/text.ts";
import { stepsOf } from "../api/timeline.ts";
import type { PageEvent, PageStart } from "./messages.ts";

/** @returns undefined for what only programs count */
export function pageEvent(event: LoggedEvent): PageEvent | undefined {
  const about = {
    time: event.time,
    pool: "pool" in event ? (event.pool ?? null) : null,
    instance: "instance" in event ? event.instance : null,
  };
  const step = stepsOf(event).at(-1);
  if (step !== undefined) return { ...about, what: step.what, isProblem: step.isProblem };
  const told = sentenceOf(event);
  return told === undefined ? undefined : { ...about, what: told, isProblem: isProblem(event) };
}

function isProblem(event: LoggedEvent): boolean {
  const { kind } = event;
  if (kind === "source") return event.state === "failing";
  return kind === "held-back" || kind === "rejected" || kind === "image-failed";
}

const ASKED = {
  drain: "this host is to be drained",
  "undo-drain": "VMs are to be made again",
  prebuild: "a new golden image is wanted",
} as const;

function sentenceOf(event: LoggedEvent): string | undefined {
  switch (event.kind) {
    case "asked":
      return `${ASKED[event.action]}, says somebody ${event.by === "page" ? "on this page" : "by the daemon's socket"}`;
    case "rejected":
      return `${event.group} gets ${event.rejected} fewer than it asked for: ${event.reason}`;
    case "held-back":
      return `no VM is made for ${formatAge(Math.ceil(event.retryInSeconds))}: ${event.error}`;
    case "resumed":
      return "VMs are made again";
    case "drain":
      return event.held ? "is being drained: no VM is made" : "is not drained any more";
    case "source":
      return event.state === "ok"
        ? `the source ${event.source} has room`
        : `the source ${event.source} is ${event.state}: ${event.problem ?? ""}`;
    case "image-begun":
      return "a golden image is being made";
    case "image-ready":
      return `the golden image is ${event.goldenImage}${event.made ? "" : ", which was there"}`;
    case "image-failed":
      return `no golden image could be made: ${event.error}`;
    case "images-removed":
      return event.count === 0
        ? undefined
        : `${event.count} unused images were removed (${formatBytes(event.bytes)})`;
    case "attached":
      return `${event.group}: a runner has come`;
    case "detached":
      return `${event.group}: its runner has gone`;
    case "leftover-removed":
      return `removed what nobody owned: ${event.what} ${event.name}`;
    default:
      return undefined;
  }
}

export function pageStart(event: LoggedEvent): PageStart | undefined {
  if (event.kind !== "ready" && event.kind !== "failed") return undefined;
  const { instance, pool, time, seconds } = event;
  const how =
    event.kind === "ready"
      ? { phases: event.phases, failedIn: null }
      : { phases: null, failedIn: event.phase };
  return { instance, pool, time, seconds, ...how };
}
