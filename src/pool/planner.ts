/** What the pool should do next, as a pure function of what it wants and what there is. */
import type { InstanceState } from "./instance.ts";

export interface Desired {
  /** How many unclaimed instances are kept ready. */
  warm: number;
  /** How many instances there may be in all, those being deleted included: each still holds its resources. */
  max: number;
  /** False while the host is so short of something that an instance that ends may make no room for another. */
  mayMakeRoom: boolean;
  /** False while creation is held back after failures or during shutdown. */
  mayCreate: boolean;
}

export interface Observed {
  id: string;
  state: InstanceState;
  claimed: boolean;
  createdAt: number;
  /** A step for this instance is under way. */
  busy: boolean;
  /** Of idle instances the one that ranks highest, the dearest, is ended first. */
  rank?: number;
  /** It was made of an image that a newer one has replaced. */
  outdated: boolean;
  /** It is to rest, if it is ready. */
  mustRest?: boolean;
  /** It rests and is to serve, if it is ready. */
  mustWake?: boolean;
  /** Everything of it is gone but the record, which waits until the group has been told. */
  buried: boolean;
}

export type Step =
  /** Makes a record and starts an instance nobody has asked for yet. */
  | { kind: "add" }
  /** Starts an instance whose record exists. */
  | { kind: "create"; id: string }
  /** Ends an idle instance that is too many. */
  | { kind: "retire"; id: string }
  /** Lets an idle instance rest. */
  | { kind: "rest"; id: string }
  | { kind: "wake"; id: string }
  /** Tears down what is deleting or failed. */
  | { kind: "delete"; id: string };

/**
 * The steps that can be started now. Applying them all and calling again converges: the result is empty
 * when every unclaimed need is met, nothing idle is outdated, and nothing is left to delete.
 *
 * Idle instances are rolled over one by one: a new one gets ready beside them, and only then the oldest outdated one
 * goes. Where the maximum leaves no place for that, it goes first.
 */
export function plan(desired: Desired, observed: readonly Observed[]): Step[] {
  const living = observed.filter((instance) => !instance.buried);
  const free = living.filter((instance) => !instance.busy);
  const ending = living.filter(({ state }) => state === "deleting" || state === "failed");
  const deletions = ending
    .filter((instance) => !instance.busy)
    .map((instance): Step => ({ kind: "delete", id: instance.id }));

  const spare = living.filter(
    (instance) => !instance.claimed && (instance.state === "ready" || instance.state === "creating"),
  );
  const ready = spare.filter((instance) => instance.state === "ready");
  const room = Math.max(0, desired.max - living.length);
  // Those that are busy for a moment, too: another one must not end in their place.
  const idle = ready
    .slice()
    .sort(
      (a, b) =>
        Number(b.outdated) - Number(a.outdated) || (b.rank ?? 0) - (a.rank ?? 0) || a.createdAt - b.createdAt,
    );
  // What is still being made replaces nothing yet.
  const surplus = Math.max(0, ready.length - desired.warm);
  const outdated = idle.slice(surplus).filter((instance) => instance.outdated).length;
  const underway = ending.length > 0 || ready.length < spare.length;
  const mustMakeRoom = outdated > 0 && room === 0 && !underway && desired.mayMakeRoom && desired.mayCreate;
  const retirements = idle
    .slice(0, Math.max(surplus, mustMakeRoom ? 1 : 0))
    .filter((instance) => !instance.busy)
    .map((instance): Step => ({ kind: "retire", id: instance.id }));
  const retired = new Set(retirements.map((step) => "id" in step && step.id));
  const sleepers = free
    .filter(({ state, id }) => state === "ready" && !retired.has(id))
    .flatMap(({ id, mustWake, mustRest }): Step[] => {
      if (mustWake) return [{ kind: "wake", id }];
      return mustRest ? [{ kind: "rest", id }] : [];
    });
  if (!desired.mayCreate) return [...deletions, ...retirements, ...sleepers];

  const creations = free
    .filter((instance) => instance.state === "creating")
    .sort((a, b) => Number(b.claimed) - Number(a.claimed) || a.createdAt - b.createdAt)
    .map((instance): Step => ({ kind: "create", id: instance.id }));
  const wanted = desired.warm + (outdated > 0 ? 1 : 0);
  const missing = Math.min(Math.max(0, wanted - spare.length), room);
  const additions = Array.from({ length: missing }, (): Step => ({ kind: "add" }));
  return [...deletions, ...retirements, ...sleepers, ...creations, ...additions];
}
