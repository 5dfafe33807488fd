/** Kernel settings of single network interfaces; the global ones are never changed. */
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { FleetingdError, systemErrorCode } from "../errors.ts";
import { exists } from "../host/files.ts";

/** Where the kernel has a folder for each interface of this network namespace. */
export const IPV4_SETTINGS = "/proc/sys/net/ipv4/conf";
const IPV6_SETTINGS = "/proc/sys/net/ipv6/conf";

/**
 * Whether IPv4 packets that come in by this interface are forwarded.
 * @throws FleetingdError NOT_FOUND if there is no such interface
 */
export async function isForwarding(interfaceName: string): Promise<boolean> {
  try {
    return (await readFile(forwardingPath(interfaceName), "utf8")).trim() !== "0";
  } catch (error) {
    throw explained(error, interfaceName);
  }
}

/**
 * Switches forwarding for one interface; says whether that changed anything.
 * @throws FleetingdError NOT_FOUND if there is no such interface, PERMISSION if the kernel's settings are read-only
 */
export async function setForwarding(interfaceName: string, on: boolean): Promise<boolean> {
  if ((await isForwarding(interfaceName)) === on) return false;
  try {
    await writeFile(forwardingPath(interfaceName), on ? "1" : "0");
  } catch (error) {
    throw explained(error, interfaceName);
  }
  return true;
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

function forwardingPath(interfaceName: string): string {
  return join(IPV4_SETTINGS, interfaceName, "forwarding");
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
      `IPv4 forwarding of the network interface ${interfaceName} could not be switched: the kernel's settings are read-only here`,
      { hint: "The daemon needs CAP_NET_ADMIN and a writable /proc/sys/net.", cause: error },
    );
  }
  return error;
}
