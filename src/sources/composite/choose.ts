/** Which of a pool's sources makes the next instance, as a pure function. */

export interface Candidate {
  /** How many more it can bear. */
  room: number;
  /** How many of the pool's unclaimed instances it should have. */
  share: number;
  /** How many it has, those that are being made included. */
  unclaimed: number;
}

/**
 * The index of the first that has room; for an instance that nobody has claimed yet, of the first that lacks some of its share.
 * @returns undefined if none has room
 */
export function choose(candidates: readonly Candidate[], isClaimed: boolean): number | undefined {
  const able = candidates.map((candidate, index) => ({ ...candidate, index })).filter(({ room }) => room > 0);
  const lacking = isClaimed ? undefined : able.find(({ share, unclaimed }) => unclaimed < share);
  return (lacking ?? able[0])?.index;
}

/** Shares that were not named: the first such source gets what the others leave, the rest nothing. */
export function sharesOf(named: readonly (number | undefined)[], warm: number): number[] {
  let left = Math.max(0, warm - named.reduce<number>((sum, share) => sum + (share ?? 0), 0));
  return named.map((share) => {
    if (share !== undefined) return share;
    const rest = left;
    left = 0;
    return rest;
  });
}
