/** The life of one instance as a timeline, made of its events: pure. */
import type { LoggedEvent, Timeline } from "./events.ts";

type Step = Timeline["steps"][number];
type Of<Kind extends LoggedEvent["kind"]> = Extract<LoggedEvent, { kind: Kind }>;

const FROM: Readonly<Record<Of<"claimed">["from"], string>> = {
  warm: "it was warm",
  resting: "it rested, and is woken for this",
  creating: "it was being made",
  new: "it was made for this",
};
const CAUSES: Readonly<Record<Of<"ending">["cause"], string>> = {
  released: "the runner gave it back",
  retired: "the pool has no need of it: another one is newer, or it is one too many",
  lost: "it ended by itself",
  cleared: "the daemon removes all instances",
  removed: "somebody removed it",
};

function whyEnded({ cause, reason }: Of<"ending">): string {
  if (reason === undefined) return CAUSES[cause];
  // Who it was says it all.
  return cause === "removed" ? reason : `${CAUSES[cause]}: ${reason}`;
}

/** @returns undefined if nothing is known of it */
export function timelineOf(
  instance: string,
  events: readonly LoggedEvent[],
  now: Date,
): Timeline | undefined {
  const own = events.filter((event) => "instance" in event && event.instance === instance);
  const [first] = own;
  if (first === undefined || !("instance" in first)) return undefined;
  const steps = own.flatMap((event) => stepsOf(event));
  for (const [index, step] of steps.entries()) {
    if (step.seconds !== null) continue;
    step.seconds = lengthOf(step, steps[index + 1]);
  }
  const groups = own.flatMap((event) => ("group" in event && event.group !== undefined ? [event.group] : []));
  return { instance, pool: first.pool, group: groups.at(-1) ?? null, ...outcomeOf(own, now), steps };
}

/** Only phases go on until the next step begins; everything else is a moment. */
function lengthOf(step: Step, next: Step | undefined): number | null {
  if (!step.what.startsWith(PHASE) || next === undefined) return null;
  return (Date.parse(next.time) - Date.parse(step.time)) / 1_000;
}

const PHASE = "made: ";

/** Most events of an instance are one step, those of a pool none. */
export function stepsOf(event: LoggedEvent): Step[] {
  const { time } = event;
  const step = (what: string, isProblem = false, seconds: number | null = null): Step[] => [
    { time, seconds, what, isProblem },
  ];
  switch (event.kind) {
    case "adopted":
      return adoptedSteps(event);
    case "creating":
      return step(
        event.group === undefined ? "is to be made, to be kept warm" : `is to be made for ${event.group}`,
      );
    case "phase":
      return step(`${PHASE}${event.phase}`);
    case "fell-back":
      return step(`is made another way (${event.to}): ${event.reason}`, true);
    case "ready":
      return step(`ready for a job, after ${event.seconds.toFixed(1)} s`);
    case "failed":
      return step(`could not be made (${event.phase}): ${event.error}`, true);
    case "rested":
      return step("rests until it is claimed: it takes no processor");
    case "woken":
      return step(`awake again, after ${event.seconds.toFixed(1)} s`);
    case "claimed":
      return step(`claimed by ${event.group}: ${FROM[event.from]}`);
    case "connected":
      return step(`${event.group} asked how to log in`);
    case "troubled":
      return step(`jobs on it will fail: ${event.reason}`, true);
    case "ending":
      return step(`to be removed, for ${whyEnded(event)}`, event.cause === "lost");
    case "retry":
      return step(
        `a step failed while it was ${event.state} (attempt ${event.attempt}), and is tried again in ${event.retryInSeconds.toFixed(1)} s: ${event.error}`,
        true,
      );
    case "deleted":
      return step("gone, with all that was its", false, event.seconds);
    default:
      return [];
  }
}

/** What its record says of the time before this daemon. */
function adoptedSteps(event: Of<"adopted">): Step[] {
  const moment = (at: number, what: string): Step => ({
    time: new Date(at).toISOString(),
    seconds: null,
    what,
    isProblem: false,
  });
  const { createdAt, phases, readyAt, claimedAt, group, alive, state } = event;
  const earlier = [
    moment(createdAt, "was to be made, by an earlier daemon"),
    ...phases.map(({ name, at }) => moment(at, `${PHASE}${name}`)),
    ...(readyAt === undefined ? [] : [moment(readyAt, "ready for a job")]),
    ...(claimedAt === undefined || group === undefined ? [] : [moment(claimedAt, `claimed by ${group}`)]),
  ].sort((a, b) => Date.parse(a.time) - Date.parse(b.time));
  const what = alive
    ? `taken over by a new daemon, ${state}`
    : `found by a new daemon, ${state}; its machine is gone`;
  return [...earlier, { time: event.time, seconds: null, what, isProblem: !alive }];
}

function outcomeOf(events: readonly LoggedEvent[], now: Date): Pick<Timeline, "state" | "outcome"> {
  const failure = events.findLast((event) => event.kind === "failed");
  const ending = events.findLast((event) => event.kind === "ending");
  const trouble = events.findLast((event) => event.kind === "troubled");
  const isGone = events.some((event) => event.kind === "deleted");
  const why =
    failure?.kind === "failed"
      ? `it could not be made (${failure.phase}): ${failure.error}`
      : ending?.kind === "ending"
        ? whyEnded(ending)
        : "";
  if (isGone)
    return { state: "gone", outcome: `It is gone: ${why === "" ? "the reason is not known" : why}.` };
  if (failure !== undefined) return { state: "failed", outcome: `It failed, and is being removed: ${why}.` };
  if (ending !== undefined) return { state: "ending", outcome: `It is being removed: ${why}.` };
  if (trouble?.kind === "troubled")
    return { state: "ready", outcome: `It lives, but jobs on it will fail: ${trouble.reason}.` };
  const isReady = events.some(({ kind }) => kind === "ready") || adoptedReady(events);
  if (isReady) return { state: "ready", outcome: "It is ready." };
  const last = events.at(-1)?.time ?? now.toISOString();
  const seconds = Math.max(0, Math.round((now.getTime() - Date.parse(last)) / 1_000));
  return { state: "creating", outcome: `It is being made; its last step began ${seconds} s ago.` };
}

function adoptedReady(events: readonly LoggedEvent[]): boolean {
  return events.some((event) => event.kind === "adopted" && event.alive && event.state === "ready");
}
