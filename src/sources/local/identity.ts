/** What makes a VM itself: made anew for each, and nowhere else. */
import { randomBytes } from "node:crypto";
import { generateSshKeyPair, type SshKeyPair } from "../../cloudinit/keys.ts";
import { DEFAULT_USER } from "../../cloudinit/prebuild.ts";
import type { SeedInput } from "../../cloudinit/seed.ts";
import type { SlotNetwork } from "../../network/slots.ts";

export interface Identity {
  /** Its instance-id and its hostname. */
  id: string;
  machineId: string;
  userKey: SshKeyPair;
  hostKey: SshKeyPair;
}

export function newIdentity(id: string): Identity {
  return {
    id,
    machineId: randomBytes(16).toString("hex"),
    userKey: generateSshKeyPair(`fleetingd ${id}`),
    hostKey: generateSshKeyPair(id),
  };
}

/** All of it that the guest is told, with bytes for its random pool and the time of this call. */
export function seedInput(
  identity: Identity,
  network: SlotNetwork,
  dnsServers: readonly string[],
): SeedInput {
  return {
    instanceId: identity.id,
    hostname: identity.id,
    machineId: identity.machineId,
    user: DEFAULT_USER,
    network: { ...network, dnsServers },
    authorizedKeys: [identity.userKey.publicKey],
    hostKey: identity.hostKey,
    randomSeed: randomBytes(64),
    now: new Date(),
  };
}
