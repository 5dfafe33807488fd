/**
 * The DNS servers that VMs are told to use when the config names none: the host's own ones, as far as a VM can
 * reach them. A stub on the host's loopback (systemd-resolved's 127.0.0.53, dnsmasq's 127.0.0.1) can't be reached
 * from a VM, so the files in which these programs keep the real servers are read instead.
 */
import { isIPv4 } from "node:net";
import { readTextIfExists } from "../host/files.ts";

export interface Resolvers {
  /** IPv4 addresses, in the order in which they are to be asked. */
  servers: string[];
  /** The file that they are from, or `fallback`. */
  source: string;
}

/** Where to look, in this order; the first file that has a usable server wins. */
export const RESOLVER_FILES: readonly string[] = [
  "/etc/resolv.conf",
  "/run/systemd/resolve/resolv.conf",
  "/run/NetworkManager/no-stub-resolv.conf",
];
/** Public resolvers (Quad9, Cloudflare), for a host whose own configuration has none that a VM can reach. */
export const FALLBACK_RESOLVERS: readonly string[] = ["9.9.9.9", "1.1.1.1"];

// The resolver library ignores what comes after the third.
const MAX_SERVERS = 3;

/** The host's real resolvers, or the fallback; a file that exists but can't be read throws. */
export async function hostResolvers(files: readonly string[] = RESOLVER_FILES): Promise<Resolvers> {
  for (const source of files) {
    const servers = parseResolvConf((await readTextIfExists(source)) ?? "");
    if (servers.length > 0) return { servers, source };
  }
  return { servers: [...FALLBACK_RESOLVERS], source: "fallback" };
}

/** The IPv4 servers of a resolv.conf that a VM can reach: neither loopback nor 0.0.0.0, which means the same. */
export function parseResolvConf(text: string): string[] {
  const servers = text
    .split("\n")
    .map((line) => /^nameserver[ \t]+(\S+)/.exec(line)?.[1])
    .filter((server) => server !== undefined)
    .filter((server) => isIPv4(server) && !server.startsWith("127.") && !server.startsWith("0."));
  return [...new Set(servers)].slice(0, MAX_SERVERS);
}
