/**
 * The local network: one TAP a VM, nftables sets for what each may do. Its contract:
 *
 * - `open` writes the static rules once; it may be called again and changes nothing then. From then on rules that
 *   somebody removes come back within a second, and until then no VM is open.
 * - `attach` returns when the TAP is up and the rules are in force: only then may a VM start. If it throws,
 *   nothing is left. Attaching what is attached already is harmless.
 * - `detach` removes elements, then the TAP; what is absent already is fine.
 * - Nothing outside our own table and our own TAPs (names in `TAP_PREFIX`) is ever changed, but for the
 *   forwarding of the egress interface.
 * - Every call may be made concurrently; calls for the same VM take effect in their order.
 */
import { FleetingdError, messageOf } from "../errors.ts";
import { type Logger, silentLogger } from "../log.ts";
import { createTurns } from "./batch.ts";
import { createConnectionForgetter } from "./conntrack.ts";
import { createConntrackWatch } from "./conntrack-watch.ts";
import { createEgressWatch } from "./egress-watch.ts";
import { createEgressForwarding } from "./forwarding.ts";
import { createGuard, type GuardSetting } from "./guard.ts";
import type { Ipv6Prefix } from "./ipv6.ts";
import { readElementCounts } from "./nft.ts";
import { elementsOf } from "./nft-elements.ts";
import type { RuleOptions } from "./nft-text.ts";
import type { HostService } from "./nft-values.ts";
import { DEFAULT_POLICY, type Policy } from "./policy.ts";
import { createRuleset, type Ruleset } from "./ruleset.ts";
import type { LocalService } from "./services.ts";
import { isTapName, type SlotNetwork, type VmSubnet } from "./slots.ts";
import { createTaps, type TapOwner } from "./taps.ts";

export interface Attachment {
  network: SlotNetwork;
  /** The interface through which this VM reaches the outside, or `auto`; undefined: it does not. */
  egressInterface: string | undefined;
  /** The name of its pool's policy, which must be known; left out: every VM's rules, and no more. */
  policy?: string | undefined;
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
  include(more: IncludedPool): Promise<void>;
  /** Puts a policy in force at once, for VMs that have it already, too. Their connections go on unless it forbids them. */
  setPolicy(policy: Policy): Promise<void>;
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

/** What rules for all VMs have to know of a pool. */
export interface IncludedPool {
  subnets: readonly VmSubnet[];
  subnets6?: readonly Ipv6Prefix[];
  dnsServers: readonly string[];
}

export interface FabricOptions {
  /** Every prefix that VMs have addresses in: no VM reaches another one's prefix through the outside. */
  subnets?: readonly VmSubnet[];
  subnets6?: readonly Ipv6Prefix[];
  /** The resolvers that the VMs' network-config names, in IPv4; also reachable if they are on the host or link-local. */
  dnsServers?: readonly string[];
  /** What VMs may use on the host beside ICMP echo to their gateway and the resolvers. */
  hostServices?: readonly HostService[];
  /** Of the host's loopback; a policy says which of them its VMs may use. VMs of no policy may use all. */
  services?: readonly LocalService[];
  /** The uids of VMs' processes: these send nothing but what goes through their TAPs. */
  processUsers?: RuleOptions["processUsers"];
  policies?: readonly Policy[];
  /** Whether VMs stay shut while our rules are away (see guard-text.ts). Default `auto`. */
  guard?: GuardSetting;
  logger?: Logger;
}

const NO_TRAFFIC: TrafficCounters = { sentBytes: 0, sentPackets: 0, receivedBytes: 0, receivedPackets: 0 };

const cidrs = (prefixes: readonly { cidr: string }[]): string[] => prefixes.map(({ cidr }) => cidr);

/** The fabric of this network namespace; there must be only one. Does nothing until it is used. */
export function createFabric(options: FabricOptions = {}): Fabric {
  const logger = options.logger ?? silentLogger;
  const taps = createTaps({ toLoopback: (options.services ?? []).length > 0 });
  const forwarding = createEgressForwarding(logger);
  const egress = createEgressWatch(forwarding, logger);
  const inTurn = createTurns();
  const checkConntrack = createConntrackWatch(logger);
  const ruleOptions = ruleOptionsOf(options);
  let included: Included = ruleOptions;
  const rules = createRuleset(ruleOptions, logger);
  const connections = createConnectionForgetter(rules.taps, () => included.subnets, logger);
  const guard = createGuard(options.guard ?? "auto", logger);
  /** Rules before the guard: it lets through only what they have marked. */
  const ensure = async (): Promise<void> => {
    await rules.ensure();
    await guard.ensure();
  };
  const attached = new Map<string, SlotNetwork>();
  const moveEgress = (tapName: string, to: string | undefined): Promise<void> =>
    inTurn(tapName, async () => {
      const network = attached.get(tapName);
      if (network !== undefined) await rules.set(tapName, elementsOf(network, to));
    });

  const attach = async ({ network, egressInterface, policy, tapOwner }: Attachment): Promise<void> => {
    const policyName = policy ?? DEFAULT_POLICY.name;
    if (!rules.hasPolicy(policyName)) throw noPolicy(policyName);
    await connections.forgotten(network.tapName);
    // Rules first: without them there must not even be a TAP.
    const withIpv6 = network.ipv6 !== undefined;
    const wayOut = await egress.resolve(egressInterface);
    await rules.set(network.tapName, elementsOf(network, wayOut));
    try {
      if (wayOut !== undefined) await forwarding.enable(wayOut, withIpv6);
      await taps.create(network, policyName, tapOwner);
      egress.add(network.tapName, { egressInterface, resolved: wayOut, withIpv6 });
      attached.set(network.tapName, network);
    } catch (error) {
      await withdraw(rules, network.tapName, logger);
      throw error;
    }
  };

  const detach = async (tapName: string): Promise<void> => {
    demandTapName(tapName);
    egress.remove(tapName);
    attached.delete(tapName);
    await rules.set(tapName, []);
    await taps.remove(tapName);
    connections.forget(tapName);
  };

  return {
    async open() {
      await ensure();
      guard.watch(ensure, [checkConntrack, () => egress.check(moveEgress)]);
    },
    async include(more) {
      included = withPool(included, more);
      await rules.configure(included);
    },
    setPolicy: (policy) => rules.setPolicy(policy),
    attach: (attachment) => inTurn(attachment.network.tapName, () => attach(attachment)),
    detach: ({ tapName }) => inTurn(tapName, () => detach(tapName)),
    async sweep(keep) {
      const present = new Set([...(await taps.list()), ...(await rules.taps())]);
      const leftOver = [...present].filter((tapName) => !keep.has(tapName));
      await Promise.all(leftOver.map((tapName) => inTurn(tapName, () => detach(tapName))));
      return leftOver;
    },
    counters: readCounters,
    listTaps: () => taps.list(),
    async release() {
      await guard.release();
      await connections.forgotten();
      await rules.release();
    },
    async close() {
      await connections.forgotten();
      // TAPs first: as long as there is one, its rules stay.
      await taps.removeAll();
      await guard.stop();
      for (const tapName of attached.keys()) egress.remove(tapName);
      attached.clear();
      await rules.remove();
      await forwarding.restore();
    },
  };
}

/** Never throws: the reason for it does. */
async function withdraw(rules: Ruleset, tap: string, logger: Logger): Promise<void> {
  try {
    await rules.set(tap, []);
  } catch (error) {
    logger.warn("rules of a VM that has no TAP are left", { tap, reason: messageOf(error) });
  }
}

function noPolicy(name: string): FleetingdError {
  return new FleetingdError("INVALID_ARGUMENT", `there is no network policy of the name ${name}`);
}

function demandTapName(tapName: string): void {
  if (isTapName(tapName)) return;
  throw new FleetingdError("INVALID_ARGUMENT", `${JSON.stringify(tapName)} is no name of a TAP of ours`);
}

type Included = Pick<RuleOptions, "subnets" | "subnets6" | "dnsServers">;

function withPool(included: Included, { subnets, subnets6 = [], dnsServers }: IncludedPool): Included {
  return {
    subnets: [...new Set([...included.subnets, ...cidrs(subnets)])],
    subnets6: [...new Set([...included.subnets6, ...cidrs(subnets6)])],
    dnsServers: [...new Set([...included.dnsServers, ...dnsServers])],
  };
}

function ruleOptionsOf(options: FabricOptions): RuleOptions {
  const services = options.services ?? [];
  const policies = [{ ...DEFAULT_POLICY, services }, ...(options.policies ?? [])];
  return {
    subnets: cidrs(options.subnets ?? []),
    subnets6: cidrs(options.subnets6 ?? []),
    dnsServers: options.dnsServers ?? [],
    hostServices: options.hostServices ?? [],
    services,
    processUsers: options.processUsers,
    policies: new Map(policies.map((policy) => [policy.name, policy])),
  };
}

async function readCounters(): Promise<Map<string, TrafficCounters>> {
  const counters = new Map<string, TrafficCounters>();
  for (const set of ["guests", "guests6", "back", "back6"] as const) {
    for (const { element, packets, bytes } of await readElementCounts(set)) {
      const [tapName = ""] = element.key;
      const sum = counters.get(tapName) ?? { ...NO_TRAFFIC };
      const sent = set.startsWith("guests");
      sum[sent ? "sentPackets" : "receivedPackets"] += packets;
      sum[sent ? "sentBytes" : "receivedBytes"] += bytes;
      counters.set(tapName, sum);
    }
  }
  return counters;
}
