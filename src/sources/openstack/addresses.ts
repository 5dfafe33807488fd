/** Which of a server's addresses the runner connects to. */
import { FleetingdError } from "../../errors.ts";
import type { Server } from "./nova.ts";

/**
 * The address that somebody has set for this purpose (`accessIPv4`), then a floating one, then a fixed one; IPv4 before IPv6,
 * networks by name.
 * @param network the one whose addresses count
 * @throws FleetingdError INVALID_CONFIG if it has none
 */
export function addressOf(server: Server, network: string | undefined): string {
  if (server.accessIPv4 && network === undefined) return server.accessIPv4;
  const addresses = Object.entries(server.addresses)
    .filter(([name]) => network === undefined || name === network)
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .flatMap(([, those]) => those);
  const rank = (it: (typeof addresses)[number]): number =>
    (it["OS-EXT-IPS:type"] === "floating" ? 0 : 1) + (it.version === 4 ? 0 : 2);
  const [best] = addresses.sort((a, b) => rank(a) - rank(b));
  if (best !== undefined) return best.addr;
  const has = Object.keys(server.addresses).map((name) => JSON.stringify(name));
  throw new FleetingdError(
    "INVALID_CONFIG",
    network === undefined
      ? `the server ${server.name} has no address`
      : `the server ${server.name} has no address in the network ${JSON.stringify(network)} (address_network); it has some in ${has.join(", ") || "none"}`,
    { hint: network === undefined ? "Name a network in server_spec.networks." : undefined },
  );
}
