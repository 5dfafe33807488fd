/** Kernel settings of single network interfaces; the global ones are never changed. */
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { FleetingdError, systemErrorCode } from "../errors.ts";
import { exists, readTextIfExists } from "../host/files.ts";

/** Where the kernel has a folder for each interface of this network namespace. */
export const IPV4_SETTINGS = "/proc/sys/net/ipv4/conf";
/** In this order: nothing is accepted when IPv6 comes on. */
const IPV6_OF_TAPS = [
  ["accept_ra", "0"],
  ["accept_redirects", "0"],
  ["addr_gen_mode", "1"],
  ["disable_ipv6", "0"],
] as const;
const IPV6_SETTINGS = "/proc/sys/net/ipv6/conf";

/**
 * Whether IPv4 packets that come in by this interface are forwarded.
 * @throws FleetingdError NOT_FOUND if there is no such interface
 */
export function isForwarding(interfaceName: string): Promise<boolean> {
  return isOn(interfaceName, "forwarding");
}

/**
 * Switches forwarding for one interface; says whether that changed anything.
 * @throws FleetingdError NOT_FOUND if there is no such interface, PERMISSION if the kernel's settings are read-only
 */
export function setForwarding(interfaceName: string, on: boolean): Promise<boolean> {
  return turn(interfaceName, "forwarding", on);
}

/**
 * Switches whether packets that come in by this interface may go on to 127.0.0.0/8, as rules translate them. Whatever else
 * is addressed to there has to be dropped before.
 * @throws FleetingdError NOT_FOUND if there is no such interface, PERMISSION if the kernel's settings are read-only
 */
export async function setLoopbackRouting(interfaceName: string, on: boolean): Promise<void> {
  await turn(interfaceName, "route_localnet", on);
}

/**
 * Switches IPv6 forwarding for one interface, or finds it on for the whole host; says whether that changed anything.
 * @throws FleetingdError NOT_FOUND, PERMISSION; UNAVAILABLE where the kernel only knows the switch for the whole host
 */
export async function setForwarding6(interfaceName: string, on: boolean): Promise<boolean> {
  const path = join(IPV6_SETTINGS, interfaceName, "force_forwarding");
  try {
    if ((await readTextIfExists(path)) === undefined) return await demandForwarding6(on);
    if (((await readFile(path, "utf8")).trim() !== "0") === on) return false;
    await writeFile(path, on ? "1" : "0");
    return true;
  } catch (error) {
    throw explained(error, interfaceName);
  }
}

async function demandForwarding6(on: boolean): Promise<false> {
  if (!on || (await readTextIfExists(join(IPV6_SETTINGS, "all/forwarding")))?.trim() === "1") return false;
  throw new FleetingdError("UNAVAILABLE", "IPv6 is not forwarded on this host, so VMs can't have IPv6", {
    hint:
      "Before Linux 6.17 that is one switch for the whole host, which is yours to turn: net.ipv6.conf.all.forwarding=1, " +
      "and accept_ra=2 for an interface that has its address from router advertisements.",
  });
}

/** Has the host speak IPv6 on a TAP, but believe nothing that comes from there. */
export async function enableIpv6(interfaceName: string): Promise<void> {
  const folder = join(IPV6_SETTINGS, interfaceName);
  if (!(await exists(folder))) {
    throw new FleetingdError("UNAVAILABLE", "this host's kernel has no IPv6, so VMs can't have it", {
      hint: "Remove vm_subnet6 from the pool, or boot the host without ipv6.disable=1.",
    });
  }
  try {
    for (const [name, value] of IPV6_OF_TAPS) await writeFile(join(folder, name), value);
  } catch (error) {
    throw explained(error, interfaceName);
  }
}

/** Keeps the host itself off IPv6 on this interface; harmless where the kernel has no IPv6. */
export async function disableIpv6(interfaceName: string): Promise<void> {
  const path = join(IPV6_SETTINGS, interfaceName, "disable_ipv6");
  if (!(await exists(path))) return;
  try {
    await writeFile(path, "1");
  } catch (error) {
    throw explained(error, interfaceName);
  }
}

async function isOn(interfaceName: string, setting: string): Promise<boolean> {
  try {
    return (await readFile(join(IPV4_SETTINGS, interfaceName, setting), "utf8")).trim() !== "0";
  } catch (error) {
    throw explained(error, interfaceName);
  }
}

async function turn(interfaceName: string, setting: string, on: boolean): Promise<boolean> {
  if ((await isOn(interfaceName, setting)) === on) return false;
  try {
    await writeFile(join(IPV4_SETTINGS, interfaceName, setting), on ? "1" : "0");
  } catch (error) {
    throw explained(error, interfaceName);
  }
  return true;
}

function explained(error: unknown, interfaceName: string): unknown {
  const code = systemErrorCode(error);
  if (code === "ENOENT" || code === "ENODEV") {
    return new FleetingdError("NOT_FOUND", `there is no network interface ${interfaceName}`, {
      hint: "`ip link` lists the interfaces of this host.",
      cause: error,
    });
  }
  if (code === "EROFS" || code === "EACCES" || code === "EPERM") {
    return new FleetingdError(
      "PERMISSION",
      `forwarding of the network interface ${interfaceName} could not be switched: the kernel's settings are read-only here`,
      { hint: "The daemon needs CAP_NET_ADMIN and a writable /proc/sys/net.", cause: error },
    );
  }
  return error;
}
