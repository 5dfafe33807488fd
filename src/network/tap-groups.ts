/**
 * The link groups of our TAPs: one a policy. So the rules find a packet's policy by a number that its device carries, at the same cost
 * whatever the number of policies and of VMs. (A map from TAPs to chains would do so, too, but the kernel checks
 * all of such a map for loops whenever one element comes.)
 */
import { createHash } from "node:crypto";
import { FleetingdError } from "../errors.ts";

/** The first byte of every policy's group. */
const PREFIX = 0x46;
const PREFIX_BITS = 8;
/** The group of all TAPs in earlier versions. */
const FORMER_GROUP = 0x666c7470;
/** TAPs on their way out; one that is found here was left by a crash. */
export const DOOMED_GROUP = 0x666c7471;

/** The link group of the TAPs of VMs with the policy of this name, today and in every later run. */
export function policyGroup(policy: string): number {
  const hash = createHash("sha256").update(policy).digest().readUInt32BE(0);
  return PREFIX * 2 ** (32 - PREFIX_BITS) + (hash >>> PREFIX_BITS);
}

export function isTapGroup(group: number): boolean {
  return group >>> (32 - PREFIX_BITS) === PREFIX || group === FORMER_GROUP || group === DOOMED_GROUP;
}

/** @throws FleetingdError INVALID_CONFIG if two policies have one group, which is as likely as one in 130,000 with 16 pools */
export function checkGroups(policies: Iterable<string>): void {
  const names = new Map<number, string>();
  for (const name of policies) {
    const other = names.get(policyGroup(name));
    if (other !== undefined) {
      throw new FleetingdError("INVALID_CONFIG", `the pools ${other} and ${name} can't be on the same host`, {
        hint: "Give one of them another name: the numbers by which the host's rules tell them apart are the same.",
      });
    }
    names.set(policyGroup(name), name);
  }
}
