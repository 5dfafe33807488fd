/**
 * TAP devices: made and removed in batches. Ours are told from other people's by their link groups, not by their
 * name alone; a device that has one of our names but none of the groups is never touched.
 */
import { join } from "node:path";
import * as z from "zod";
import { FleetingdError } from "../errors.ts";
import { exists } from "../host/files.ts";
import { createBatcher } from "./batch.ts";
import { ipBatch, ipList } from "./ip.ts";
import { checkPolicyName } from "./nft-values.ts";
import { isTapName, type SlotNetwork, type SlotNetwork6 } from "./slots.ts";
import {
  disableIpv6,
  enableIpv6,
  IPV4_SETTINGS,
  setForwarding,
  setForwarding6,
  setLoopbackRouting,
} from "./sysctl.ts";
import { DOOMED_GROUP, isTapGroup, policyGroup } from "./tap-groups.ts";

/** Which user may open a TAP: the one that the VM's process runs as. */
export interface TapOwner {
  uid: number;
  gid?: number | undefined;
}

export interface Taps {
  /**
   * Makes the TAP, addressed, up and forwarding, in the policy's group; one of ours that exists already is brought to that state.
   * @throws FleetingdError ALREADY_EXISTS if somebody else's device has the name; nothing is left then or otherwise.
   */
  create(network: SlotNetwork, policy: string, owner?: TapOwner): Promise<void>;
  /** Removes a TAP of ours; fine if there is none. @throws FleetingdError ALREADY_EXISTS if it is somebody else's. */
  remove(tapName: string): Promise<void>;
  /** The names of all TAPs of ours. */
  list(): Promise<string[]>;
  /** Removes all TAPs of ours. */
  removeAll(): Promise<void>;
}

/** Every TAP has this MAC on the host's side: a restored snapshot still knows its gateway. */
export const GATEWAY_MAC = "02:fc:00:00:00:01";

const MAX_TAPS_PER_BATCH = 100;
const LINK = z.object({ ifname: z.string(), group: z.union([z.string(), z.number()]).optional() });

/** @param options.toLoopback whether rules may lead from TAPs to services on the host's loopback */
export function createTaps(options: { toLoopback: boolean } = { toLoopback: false }): Taps {
  const batched = createBatcher<readonly string[]>((batch) => ipBatch(batch.flat()), MAX_TAPS_PER_BATCH);
  const demandedOurs = createBatcher<string>(demandOurs, MAX_TAPS_PER_BATCH);
  const batchedRemoval = createBatcher<string>(removeBatch, MAX_TAPS_PER_BATCH);

  return {
    async create(network, policy, owner) {
      const { tapName } = network;
      const isNew = !(await deviceExists(tapName));
      if (!isNew) await demandedOurs(tapName);
      try {
        await batched([
          ...(isNew ? [creationLine(tapName, owner)] : []),
          ...configurationLines(network, policy),
        ]);
        await setForwarding(tapName, true);
        await setLoopbackRouting(tapName, options.toLoopback);
        if (network.ipv6 === undefined) await disableIpv6(tapName);
        else await addIpv6(tapName, network.macAddress, network.ipv6, batched);
      } catch (error) {
        // It did not exist before, so what exists now is what this call made.
        if (isNew && (await deviceExists(tapName))) await ipBatch([`link delete dev ${tapName}`]);
        throw error;
      }
    },
    async remove(tapName) {
      if (!(await deviceExists(tapName))) return;
      await demandedOurs(tapName);
      await batchedRemoval(tapName);
    },
    list: listTaps,
    async removeAll() {
      await removeBatch(await listTaps());
    },
  };
}

async function listTaps(): Promise<string[]> {
  const links = await ipList(["link", "show"], LINK);
  return links
    .filter(({ ifname, group }) => isTapName(ifname) && isTapGroup(Number(group)))
    .map(({ ifname }) => ifname);
}

function creationLine(tapName: string, owner: TapOwner = { uid: 0 }): string {
  // A TAP without an owner could be opened by any user.
  const group = owner.gid === undefined ? "" : ` group ${owner.gid}`;
  return `tuntap add dev ${tapName} mode tap user ${owner.uid}${group}`;
}

function configurationLines(
  { tapName, gateway, prefixLength, address, macAddress }: SlotNetwork,
  policy: string,
): string[] {
  return [
    // Also for one that exists: it may have been on its way out. The alias is for people.
    `link set dev ${tapName} group ${policyGroup(policy)} alias fleetingd/${checkPolicyName(policy)} address ${GATEWAY_MAC}`,
    `address replace ${gateway}/${prefixLength} dev ${tapName}`,
    `link set dev ${tapName} up`,
    // Permanent: the host never has to believe what the guest says about MACs.
    `neighbour replace ${address} lladdr ${macAddress} dev ${tapName} nud permanent`,
  ];
}

/** After the sysctl: where IPv6 is off by default, a new device takes no address. */
async function addIpv6(
  tapName: string,
  macAddress: string,
  { gateway, prefixLength, address, linkLocal }: SlotNetwork6,
  batched: (lines: readonly string[]) => Promise<void>,
): Promise<void> {
  await enableIpv6(tapName);
  await setForwarding6(tapName, true);
  await batched([
    `address replace ${gateway}/${prefixLength} dev ${tapName} nodad`,
    ...[address, linkLocal].map(
      (each) => `neighbour replace ${each} lladdr ${macAddress} dev ${tapName} nud permanent`,
    ),
  ]);
}

async function removeBatch(names: readonly string[]): Promise<void> {
  const present: string[] = [];
  for (const name of names) if (await deviceExists(name)) present.push(name);
  if (present.length === 0) return;
  // The kernel waits for every deletion, but only once for a whole group: fifty in 30 ms instead of 800.
  const dooming = present.map((name) => `link set dev ${name} group ${DOOMED_GROUP}`);
  await ipBatch([...dooming, `link delete group ${DOOMED_GROUP}`]);
}

/** Asks once for all: a daemon that starts has hundreds to ask for. */
async function demandOurs(names: readonly string[]): Promise<void> {
  const [only, ...more] = names;
  const which = only === undefined || more.length > 0 ? [] : ["dev", only];
  const groups = new Map(
    (await ipList(["link", "show", ...which], LINK)).map(({ ifname, group }) => [ifname, Number(group)]),
  );
  for (const tapName of names) {
    const group = groups.get(tapName);
    if (group === undefined || isTapGroup(group)) continue;
    throw new FleetingdError(
      "ALREADY_EXISTS",
      `the network interface ${tapName} exists but was not made by fleetingd, so it is left alone`,
      { hint: `If nothing uses it, remove it with \`ip link delete ${tapName}\`.` },
    );
  }
}

// /proc and not /sys: what is in /sys/class/net is that of the network namespace in which /sys was mounted.
function deviceExists(name: string): Promise<boolean> {
  return exists(join(IPV4_SETTINGS, name));
}
