/**
 * The local network: one TAP a VM, nftables sets for what each may do. Its contract:
 *
 * - `open` writes the static rules once; it may be called again and changes nothing then. From then on rules that
 *   somebody removes come back within a second, and until then no VM is open.
 * - `attach` returns when the TAP is up and the rules are in force: only then may a VM start. If it throws,
 *   nothing is left. Attaching what is attached already is harmless.
 * - `detach` removes elements, then the TAP; what is absent already is fine.
 * - Nothing outside our own table and our own TAPs (names in `TAP_PREFIX`) is ever changed, but for the IPv4
 *   forwarding of the egress interface.
 * - Every call may be made concurrently; calls for the same VM take effect in their order.
 */
import { FleetingdError, messageOf } from "../errors.ts";
import { type Logger, silentLogger } from "../log.ts";
import { createTurns } from "./batch.ts";
import { createConnectionForgetter } from "./conntrack.ts";
import { createEgressForwarding } from "./forwarding.ts";
import { createGuard } from "./guard.ts";
import { readElementCounts } from "./nft.ts";
import { elementsOf } from "./nft-elements.ts";
import type { HostService } from "./nft-values.ts";
import { createRuleset } from "./ruleset.ts";
import { addressOfTap, isTapName, type SlotNetwork, type VmSubnet } from "./slots.ts";
import { createTaps, type TapOwner } from "./taps.ts";

export interface Attachment {
  network: SlotNetwork;
  /** The interface through which this VM reaches the outside; undefined: it does not. */
  egressInterface: string | undefined;
  /** Who may open the TAP; root if it is left out. Only counts when the TAP is made. */
  tapOwner?: TapOwner | undefined;
}

export interface TrafficCounters {
  sentBytes: number;
  sentPackets: number;
  receivedBytes: number;
  receivedPackets: number;
}

export interface Fabric {
  open(): Promise<void>;
  /** Lets VMs of further prefixes in, and their resolvers: for a pool that comes while the daemon runs. */
  include(more: { subnets: readonly VmSubnet[]; dnsServers: readonly string[] }): Promise<void>;
  attach(attachment: Attachment): Promise<void>;
  detach(network: SlotNetwork): Promise<void>;
  /** Detaches every VM, known or left over, whose TAP name is not in `keep`; returns the names of those. */
  sweep(keep: ReadonlySet<string>): Promise<string[]>;
  /** Traffic of each attached VM by TAP name, as the outside of the VM sees it. */
  counters(): Promise<ReadonlyMap<string, TrafficCounters>>;
  /** The names of all TAPs that are ours, whether a VM uses them or not. */
  listTaps(): Promise<string[]>;
  /** Looks after the rules no more: VMs stay with all that is theirs, for the next daemon. */
  release(): Promise<void>;
  /** Removes our tables and every TAP of ours. Not while other calls are under way. */
  close(): Promise<void>;
}

export interface FabricOptions {
  /** Every prefix that VMs have addresses in: no VM reaches another one's prefix through the outside. */
  subnets?: readonly VmSubnet[];
  /** The resolvers that the VMs' network-config names, in IPv4; also reachable if they are on the host or link-local. */
  dnsServers?: readonly string[];
  /** What VMs may use on the host beside ICMP echo to their gateway and the resolvers. */
  hostServices?: readonly HostService[];
  logger?: Logger;
}

/** The fabric of this network namespace; there must be only one. Does nothing until it is used. */
export function createFabric(options: FabricOptions = {}): Fabric {
  const logger = options.logger ?? silentLogger;
  const taps = createTaps();
  const forwarding = createEgressForwarding(logger);
  const inTurn = createTurns();
  const forgetConnections = createConnectionForgetter(logger);
  const cidrs = (subnets: readonly VmSubnet[]): string[] => subnets.map((subnet) => subnet.cidr);
  const ruleOptions = {
    subnets: cidrs(options.subnets ?? []),
    dnsServers: options.dnsServers ?? [],
    hostServices: options.hostServices ?? [],
  };
  const rules = createRuleset(ruleOptions, logger);
  const guard = createGuard(logger);
  /** Rules before the guard: it lets through only what they have marked. */
  const ensure = async (): Promise<void> => {
    await rules.ensure();
    await guard.ensure();
    guard.watch(ensure);
  };

  const attach = async ({ network, egressInterface, tapOwner }: Attachment): Promise<void> => {
    // Rules first: without them there must not even be a TAP.
    await rules.set(network.tapName, elementsOf(network, egressInterface));
    try {
      if (egressInterface !== undefined) await forwarding.enable(egressInterface);
      await taps.create(network, tapOwner);
    } catch (error) {
      await rules.set(network.tapName, []).catch((undoError: unknown) =>
        logger.warn("rules of a VM that has no TAP are left", {
          tap: network.tapName,
          reason: messageOf(undoError),
        }),
      );
      throw error;
    }
  };

  const detach = async (tapName: string): Promise<void> => {
    if (!isTapName(tapName)) {
      throw new FleetingdError("INVALID_ARGUMENT", `${JSON.stringify(tapName)} is no name of a TAP of ours`);
    }
    await rules.set(tapName, []);
    await taps.remove(tapName);
    const address = addressOfTap(tapName);
    if (address !== undefined) await forgetConnections(address);
  };

  return {
    open: ensure,
    async include({ subnets, dnsServers }) {
      ruleOptions.subnets = [...new Set([...ruleOptions.subnets, ...cidrs(subnets)])];
      ruleOptions.dnsServers = [...new Set([...ruleOptions.dnsServers, ...dnsServers])];
      await rules.ensure();
    },
    attach: (attachment) => inTurn(attachment.network.tapName, () => attach(attachment)),
    detach: ({ tapName }) => inTurn(tapName, () => detach(tapName)),
    async sweep(keep) {
      const present = new Set([...(await taps.list()), ...(await rules.taps())]);
      const leftOver = [...present].filter((tapName) => !keep.has(tapName));
      await Promise.all(leftOver.map((tapName) => inTurn(tapName, () => detach(tapName))));
      return leftOver;
    },
    async counters() {
      const [sent, received] = await Promise.all([readElementCounts("guests"), readElementCounts("back")]);
      const receivedBy = new Map(received.map((count) => [count.element.key[0], count]));
      return new Map(
        sent.map(({ element: { key }, packets, bytes }) => {
          const back = receivedBy.get(key[0]);
          const counters: TrafficCounters = {
            sentBytes: bytes,
            sentPackets: packets,
            receivedBytes: back?.bytes ?? 0,
            receivedPackets: back?.packets ?? 0,
          };
          return [key[0] ?? "", counters] as const;
        }),
      );
    },
    listTaps: () => taps.list(),
    release: () => guard.release(),
    async close() {
      // TAPs first: as long as there is one, its rules stay.
      await taps.removeAll();
      await guard.stop();
      await rules.remove();
      await forwarding.restore();
    },
  };
}
