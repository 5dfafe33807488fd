/**
 * Which slots are in use. Invariants: a slot is leased at most once; a slot that was given back is the last
 * to be given out again, because answers to its old VM may still be on their way.
 *
 * In memory only: after a restart the records of the VMs say which slots to `acquireSlot`.
 */
import { FleetingdError } from "../errors.ts";
import { type SlotNetwork, slotNetwork, type VmSubnet } from "./slots.ts";

export interface Leases {
  /** How many VMs the subnet has room for. */
  readonly capacity: number;
  readonly inUse: number;
  /** Takes the slot that has not been used for the longest time. @throws FleetingdError EXHAUSTED */
  acquire(): SlotNetwork;
  /** Takes this very slot, for a VM that is adopted. @throws FleetingdError ALREADY_EXISTS, INVALID_ARGUMENT */
  acquireSlot(slot: number): SlotNetwork;
  /** Gives a slot back; harmless if nobody has it. */
  release(slot: number): void;
}

export function createLeases(subnet: VmSubnet): Leases {
  const leased = new Set<number>();
  // In the order in which they were given back.
  const released = new Set<number>();
  // Every slot from here on has never been given out by `acquire`: a /8 has four million, so no list of them is kept.
  let next = 0;

  const take = (slot: number): SlotNetwork => {
    const network = slotNetwork(subnet, slot);
    leased.add(slot);
    released.delete(slot);
    return network;
  };
  const leastRecentlyUsed = (): number | undefined => {
    while (next < subnet.slotCount && (leased.has(next) || released.has(next))) next += 1;
    return next < subnet.slotCount ? next : released.values().next().value;
  };

  return {
    capacity: subnet.slotCount,
    get inUse() {
      return leased.size;
    },
    acquire() {
      const slot = leastRecentlyUsed();
      if (slot !== undefined) return take(slot);
      throw new FleetingdError(
        "EXHAUSTED",
        `all ${subnet.slotCount} networks of the VM subnet ${subnet.cidr} are in use`,
        { hint: "Configure a larger vm_subnet (a /16 has room for 16384 VMs), or allow fewer VMs." },
      );
    },
    acquireSlot(slot) {
      if (leased.has(slot)) {
        throw new FleetingdError(
          "ALREADY_EXISTS",
          `slot ${slot} of the VM subnet ${subnet.cidr} is in use already`,
        );
      }
      return take(slot);
    },
    release(slot) {
      if (leased.delete(slot)) released.add(slot);
    },
  };
}
