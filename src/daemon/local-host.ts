/** The parts of this host that all its local pools share. */
import { mkdir } from "node:fs/promises";
import type { Config } from "../config/types.ts";
import { detectAccelerator } from "../hypervisor/accelerator.ts";
import { type Confinement, findConfinement } from "../hypervisor/confinement.ts";
import { openHypervisor } from "../hypervisor/select.ts";
import { createUsers, formatUserRange, readersGroup, type UserRange } from "../hypervisor/users.ts";
import type { Logger } from "../log.ts";
import { createFabric } from "../network/fabric.ts";
import { createLeases, type Leases } from "../network/leases.ts";
import { hostResolvers } from "../network/resolvers.ts";
import type { VmSubnet } from "../network/slots.ts";
import { Admission } from "../sources/local/admission.ts";
import type { LocalHost } from "../sources/local/host.ts";
import { checkHost, type NamedPool, usesHost } from "./host-checks.ts";
import { policyOf } from "./pool-policy.ts";
import { checkVmUsers } from "./vm-users.ts";

export interface HostFacts {
  accelerator: "kvm" | "tcg";
  /** Half a sentence on what holds VMs' processes. */
  confinement: string;
  /** The host's own resolvers, for pools that name none. */
  dnsServers: readonly string[];
}

export interface OpenedHost {
  readonly host: LocalHost;
  readonly facts: HostFacts;
}

/** Opened when the first pool needs it: a host whose pools are all at clouds need not be able to have VMs. */
export class OnDemandHost {
  readonly #open: () => Promise<OpenedHost>;
  #opening: Promise<OpenedHost> | undefined;
  #opened: OpenedHost | undefined;

  constructor(open: () => Promise<OpenedHost>) {
    this.#open = open;
  }

  /** Undefined as long as nobody needed it. */
  get opened(): OpenedHost | undefined {
    return this.#opened;
  }

  /** What people are told of it. */
  get description(): { accelerator: string; hypervisor: string; confinement: string } {
    if (this.#opened === undefined)
      return { accelerator: "none", hypervisor: "none", confinement: "elsewhere" };
    const { host, facts } = this.#opened;
    const { accelerator, confinement } = facts;
    return { accelerator, hypervisor: host.hypervisor.description, confinement };
  }

  /** @throws what stands against VMs on this host; the next call looks again */
  open(): Promise<OpenedHost> {
    this.#opening ??= this.#open().then(
      (opened) => {
        this.#opened = opened;
        return opened;
      },
      (error: unknown) => {
        this.#opening = undefined;
        throw error;
      },
    );
    return this.#opening;
  }
}

/** @throws FleetingdError MISSING_PROGRAM, PERMISSION, UNAVAILABLE, INVALID_CONFIG */
export async function openLocalHost(
  { daemon: config, services }: Pick<Config, "daemon" | "services">,
  named: readonly NamedPool[],
  logger: Logger,
): Promise<OpenedHost> {
  await checkHost();
  await checkVmUsers(config.vmUsers);
  const accelerator = await detectAccelerator({ logger });
  const confinement = await findConfinement(logger);
  const hypervisor = await openHypervisor({
    choice: config.hypervisor,
    accelerator,
    confinement,
    readers: config.vmUsers && readersGroup(config.vmUsers),
    logger,
  });
  const resolvers = await hostResolvers();
  const local = named.filter(([, pool]) => usesHost(pool));
  const pools = local.map(([, pool]) => pool);
  const fabric = createFabric({
    subnets: pools.map((pool) => pool.subnet),
    subnets6: pools.flatMap((pool) => pool.subnet6 ?? []),
    policies: local.map(([name, pool]) => policyOf(name, pool, services)),
    services,
    processUsers: config.vmUsers,
    guard: config.rulesGuard,
    dnsServers: [...new Set([...resolvers.servers, ...pools.flatMap((pool) => pool.dnsServers)])],
    logger,
  });
  await fabric.open();
  const leases = new Map<string, Leases>();
  const leasesOf = (subnet: VmSubnet): Leases => {
    const known = leases.get(subnet.cidr) ?? createLeases(subnet);
    leases.set(subnet.cidr, known);
    return known;
  };
  await mkdir(config.stateDirectory, { recursive: true, mode: 0o700 });
  return {
    host: {
      stateDirectory: config.stateDirectory,
      hypervisor,
      emulated: accelerator.kind === "tcg",
      fabric,
      leasesOf,
      admission: new Admission(config.admission),
      users: createUsers(config.vmUsers),
    },
    facts: {
      accelerator: accelerator.kind,
      confinement: describeConfinement(
        confinement,
        hypervisor.name === "qemu" || hypervisor.startsAsUser ? config.vmUsers : undefined,
      ),
      dnsServers: resolvers.servers,
    },
  };
}

function describeConfinement({ canStrip, hasCgroups }: Confinement, users: UserRange | undefined): string {
  return [
    canStrip ? "without capabilities" : "with the daemon's capabilities",
    users === undefined ? "as root" : `as users of their own (${formatUserRange(users)})`,
    hasCgroups ? "in cgroups of their own" : "without cgroups of their own",
  ].join(", ");
}
