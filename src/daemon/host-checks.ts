/** What a host says against a configuration: looked at before anything is made, and told all at once. */
import { access, constants } from "node:fs/promises";
import { totalmem } from "node:os";
import type { PoolConfig } from "../config/types.ts";
import { describeError, type ErrorCode, FleetingdError } from "../errors.ts";
import { ensureDirectory, findProgram } from "../host/files.ts";
import { findSubnetOverlap, findSubnetOverlap6, resolveEgressInterface } from "../network/host-check.ts";
import { ipv6PrefixesOverlap } from "../network/ipv6.ts";
import { prefixesOverlap } from "../network/slots.ts";

/** Whether a pool has VMs on this host: only then does the host have a say. */
export function usesHost(pool: PoolConfig): boolean {
  return pool.sources.some(({ config }) => config === undefined);
}

/** Where no pool is known, the runners' own will be on this host. */
export function needsHost(pools: readonly PoolConfig[]): boolean {
  return pools.length === 0 || pools.some(usesHost);
}

export type NamedPool = readonly [name: string, pool: PoolConfig];

export const TUN_DEVICE = "/dev/net/tun";
/** Without these no VM can be made; what only some images need is asked for where they are made. */
const PROGRAMS = { nft: "nftables", ip: "iproute2", "qemu-img": "qemu-utils" } as const;

/**
 * Whether VMs can be made on this host at all.
 * @throws FleetingdError MISSING_PROGRAM, UNAVAILABLE
 */
export async function checkHost(): Promise<void> {
  throwAll(await hostProblems());
}

/** What stands against VMs on this host at all. */
export async function hostProblems(): Promise<FleetingdError[]> {
  const problems: FleetingdError[] = [];
  for (const [program, debianPackage] of Object.entries(PROGRAMS)) {
    if ((await findProgram(program)) !== undefined) continue;
    problems.push(
      new FleetingdError("MISSING_PROGRAM", `the program ${program} was not found on PATH`, {
        hint: `Install it; Debian and Ubuntu have it in the package ${debianPackage}.`,
      }),
    );
  }
  try {
    await access(TUN_DEVICE, constants.R_OK | constants.W_OK);
  } catch (error) {
    problems.push(
      new FleetingdError("UNAVAILABLE", `there is no usable ${TUN_DEVICE}, so VMs can have no network`, {
        hint: "Load the module with `modprobe tun`; in a container, pass the device in.",
        cause: error,
      }),
    );
  }
  return problems;
}

/**
 * Whether this host can have these pools.
 * @param others Pools that are there already, which the new ones must fit beside.
 * @throws FleetingdError INVALID_CONFIG, PERMISSION
 */
export async function checkPools(pools: readonly NamedPool[], others: readonly NamedPool[]): Promise<void> {
  const here = pools.filter(([, pool]) => usesHost(pool));
  const disks = here.map(([name, pool]) => checkDiskDirectory(name, pool.diskDirectory));
  throwAll([...(await poolProblems(pools, others)), ...(await reasons(disks))]);
}

/** What this host says against these pools, but for their disks; changes nothing. */
export async function poolProblems(
  pools: readonly NamedPool[],
  others: readonly NamedPool[],
): Promise<unknown[]> {
  const here = pools.filter(([, pool]) => usesHost(pool));
  const beside = others.filter(([, pool]) => usesHost(pool));
  const found = await Promise.all(
    here.map(async ([name, pool], index) => {
      const earlier = [...beside, ...here.slice(0, index)];
      const checks = [
        checkMemory(name, pool),
        checkSubnet(name, pool, earlier),
        checkSubnet6(name, pool, earlier),
        checkEgressInterface(name, pool),
      ];
      return reasons(checks);
    }),
  );
  return found.flat();
}

async function reasons(checks: readonly Promise<void>[]): Promise<unknown[]> {
  return (await Promise.allSettled(checks)).flatMap((check) =>
    check.status === "rejected" ? [check.reason as unknown] : [],
  );
}

function throwAll(problems: readonly unknown[]): void {
  const [first, ...more] = problems;
  if (first === undefined) return;
  if (more.length === 0) throw first;
  const code: ErrorCode = first instanceof FleetingdError ? first.code : "INTERNAL";
  throw new FleetingdError(code, problems.map(describeError).join("\n"), { cause: first });
}

async function checkMemory(poolName: string, pool: PoolConfig): Promise<void> {
  const hostMiB = Math.floor(totalmem() / 1024 ** 2);
  if (pool.memoryMiB <= hostMiB) return;
  throw new FleetingdError(
    "INVALID_CONFIG",
    `pool ${poolName}: vm_memory_mb = ${pool.memoryMiB} is more than this host's ${hostMiB} MiB`,
    { hint: "Give each VM a part of the host's memory only." },
  );
}

async function checkSubnet(name: string, pool: PoolConfig, earlier: readonly NamedPool[]): Promise<void> {
  const { cidr } = pool.subnet;
  // Pools with the same prefix share its slots; prefixes that only overlap would give an address out twice.
  const rival = earlier.find(
    ([, other]) => other.subnet.cidr !== cidr && prefixesOverlap(other.subnet.cidr, cidr),
  );
  if (rival !== undefined) {
    const [rivalName, { subnet }] = rival;
    throw new FleetingdError(
      "INVALID_CONFIG",
      `pool ${name}: vm_subnet ${cidr} overlaps ${subnet.cidr} of pool ${rivalName}`,
      { hint: "Give both the same prefix, which they then share, or two that have no address in common." },
    );
  }
  const overlap = await findSubnetOverlap(pool.subnet);
  if (overlap === undefined) return;
  throw new FleetingdError("INVALID_CONFIG", `pool ${name}: ${overlap}`, {
    hint: "Set vm_subnet to a private prefix that the host does not use.",
  });
}

async function checkSubnet6(name: string, pool: PoolConfig, earlier: readonly NamedPool[]): Promise<void> {
  const { subnet, subnet6 } = pool;
  if (subnet6 === undefined) return;
  for (const [rivalName, rival] of earlier) {
    if (rival.subnet6 === undefined || !ipv6PrefixesOverlap(subnet6, rival.subnet6)) continue;
    // The same slots in the same prefix: no address is given out twice.
    if (rival.subnet6.cidr === subnet6.cidr && rival.subnet.cidr === subnet.cidr) continue;
    throw new FleetingdError(
      "INVALID_CONFIG",
      `pool ${name}: vm_subnet6 ${subnet6.cidr} overlaps ${rival.subnet6.cidr} of pool ${rivalName}`,
      { hint: "Pools share both vm_subnet and vm_subnet6, or have IPv6 prefixes with no address in common." },
    );
  }
  const overlap = await findSubnetOverlap6(subnet6);
  if (overlap === undefined) return;
  throw new FleetingdError("INVALID_CONFIG", `pool ${name}: ${overlap}`, {
    hint: "Set vm_subnet6 to a prefix that is routed to this host, or to an unused one of fd00::/8.",
  });
}

async function checkEgressInterface(name: string, pool: PoolConfig): Promise<void> {
  try {
    await resolveEgressInterface(pool.egressInterface);
  } catch (error) {
    if (!(error instanceof FleetingdError)) throw error;
    const { code, message, hint } = error;
    throw new FleetingdError(code, `pool ${name}: ${message}`, { hint, cause: error });
  }
}

async function checkDiskDirectory(name: string, directory: string): Promise<void> {
  try {
    await ensureDirectory(directory, 0o711);
    await access(directory, constants.W_OK | constants.X_OK);
  } catch (error) {
    throw new FleetingdError("PERMISSION", `pool ${name}: vm_disk_directory ${directory} is not writable`, {
      hint: "Name a directory on a writable file system with room for images and clones.",
      cause: error,
    });
  }
}
