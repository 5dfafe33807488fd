/** Why a pool has fewer warm instances than it should: the reason that is nearest to its root, as the end of a sentence. */
import type { PoolStatus } from "../api/status.ts";

export interface WhyFacts extends Omit<PoolStatus, "why"> {
  /** What keeps its source from more instances. */
  shortage: string | undefined;
  /** The phase of each instance that is being made; undefined for one that has not begun. */
  making: readonly (string | undefined)[];
}

/** @returns null if the pool is as it should be */
export function whyTooFew(facts: WhyFacts): string | null {
  const { warm, counts, maxInstances, prebuild, goldenImage, shortage, lastError, making } = facts;
  if (facts.draining) return "it is being drained (`fleetingd drain --undo` ends that).";
  if (warm.actual >= warm.desired) return null;
  if (prebuild.state === "running" && goldenImage === null)
    return `its golden image is being made: ${prebuild.step ?? "it has just begun"}.`;
  if (lastError !== null && lastError !== shortage) {
    const next = facts.retryInSeconds > 0 ? `in ${facts.retryInSeconds} s` : "under way";
    return `the last one could not be made, and the next try is ${next}: ${sentence(lastError)}`;
  }
  if (shortage !== undefined) return sentence(shortage);
  const begun = making.filter((phase) => phase !== undefined);
  if (begun.length > 0)
    return `${begun.length} ${begun.length === 1 ? "is" : "are"} being made: ${summary(begun)}.`;
  if (making.length > 0)
    return `${making.length} ${making.length === 1 ? "waits" : "wait"} for others that are being made (max_concurrent_creates).`;
  if (counts.ready + counts.deleting + counts.failed >= maxInstances) {
    const inUse = counts.ready - warm.actual;
    return `it has all ${maxInstances} instances that it may have (max_instances): ${inUse} in use, ${counts.deleting + counts.failed} being removed.`;
  }
  return "they are about to be made.";
}

function summary(phases: readonly string[]): string {
  const counts = new Map<string, number>();
  for (const phase of phases) counts.set(phase, (counts.get(phase) ?? 0) + 1);
  return [...counts].map(([phase, count]) => `${count} in the phase ${phase}`).join(", ");
}

function sentence(text: string): string {
  return /[.!?]$/.test(text) ? text : `${text}.`;
}
