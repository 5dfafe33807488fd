/**
 * The users that VMs' processes run as: uids, and gids of the same number, that nobody else on the host has.
 * Invariants: no two VMs have the same one at a time; one that was given back is the last to be given out again; the last
 * number of the range is no VM's.
 *
 * In memory only: after a restart the records of the VMs say which are to be reserved.
 */
import { FleetingdError } from "../errors.ts";

/** Both ends belong to it. */
export interface UserRange {
  first: number;
  last: number;
}

/** The group of what several VMs' processes read, such as a golden image: of it nobody is but they. */
export function readersGroup(range: UserRange): number {
  return range.last;
}

export interface Users {
  /** Undefined if VMs are not to have users of their own. @throws FleetingdError EXHAUSTED */
  acquire(): number | undefined;
  /** Takes this very one, for a VM that is there already. */
  reserve(user: number): void;
  /** Gives one back; harmless if nobody has it. */
  release(user: number): void;
}

export function createUsers(range: UserRange | undefined): Users {
  const taken = new Set<number>();
  let next = range?.first ?? 0;
  return {
    acquire() {
      if (range === undefined) return undefined;
      const last = range.last - 1;
      const count = last - range.first + 1;
      for (let tried = 0; tried < count; tried++) {
        const user = next;
        next = user >= last ? range.first : user + 1;
        if (taken.has(user)) continue;
        taken.add(user);
        return user;
      }
      throw new FleetingdError(
        "EXHAUSTED",
        `all ${count} users of ${formatUserRange({ ...range, last })} are in use`,
        {
          hint: "Configure a larger daemon.vm_uids, or allow fewer VMs.",
        },
      );
    },
    reserve: (user) => void taken.add(user),
    release: (user) => void taken.delete(user),
  };
}

export function formatUserRange({ first, last }: UserRange): string {
  return `${first}-${last}`;
}
