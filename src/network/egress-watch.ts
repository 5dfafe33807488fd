/**
 * The ways out of VMs while they run: `auto` follows the default route, and an interface that went and came back
 * forwards again. Holds no state of the kernel's; what it knows are the attachments that the fabric tells it of.
 */
import { exists } from "../host/files.ts";
import type { Logger } from "../log.ts";
import { defaultRouteInterface } from "./default-route.ts";
import type { EgressForwarding } from "./forwarding.ts";
import { IPV4_SETTINGS, setForwarding } from "./sysctl.ts";

/** As an egress interface: the one of the default route, whichever that is at the time. */
export const AUTO = "auto";

interface Way {
  egressInterface: string | undefined;
  /** What that meant when the VM's rules were written. */
  resolved: string | undefined;
  withIpv6: boolean;
}

export interface EgressWatch {
  /** The interface that is meant now. */
  resolve(egressInterface: string | undefined): Promise<string | undefined>;
  add(tapName: string, way: Way): void;
  remove(tapName: string): void;
  /** Looks whether something has changed; `move` is called for each VM whose way out is another one now. */
  check(move: (tapName: string, to: string | undefined) => Promise<void>): Promise<void>;
}

/** Hundreds of VMs are attached at once when a daemon starts; `check` finds whatever changes meanwhile. */
const ROUTE_FRESH_MS = 100;

export function createEgressWatch(forwarding: EgressForwarding, logger: Logger): EgressWatch {
  const ways = new Map<string, Way>();
  let route: { name: string | undefined; readAt: number } | undefined;
  const defaultRoute = (): string | undefined => {
    if (route === undefined || performance.now() - route.readAt > ROUTE_FRESH_MS)
      route = { name: defaultRouteInterface(), readAt: performance.now() };
    return route.name;
  };

  async function keepForwarding(): Promise<void> {
    let wasOff = false;
    for (const [name, withIpv6] of interfacesOf(ways.values())) {
      if (await exists(`${IPV4_SETTINGS}/${name}`))
        wasOff = (await forwarding.enable(name, withIpv6)) || wasOff;
    }
    // Who switches it off for the whole host (net.ipv4.ip_forward) switches it off for each interface, TAPs included.
    for (const tapName of wasOff ? ways.keys() : [])
      if (await exists(`${IPV4_SETTINGS}/${tapName}`)) await setForwarding(tapName, true);
  }

  return {
    resolve: async (egressInterface) => (egressInterface === AUTO ? defaultRoute() : egressInterface),
    add: (tapName, way) => void ways.set(tapName, way),
    remove: (tapName) => void ways.delete(tapName),
    async check(move) {
      if (ways.size === 0) return;
      const now = defaultRouteInterface();
      const moved = [...ways].filter(
        ([, { egressInterface, resolved }]) => egressInterface === AUTO && resolved !== now,
      );
      if (moved.length > 0) {
        logger.warn("the default route has moved, and VMs with it", { to: now ?? "none", vms: moved.length });
        await Promise.all(moved.map(([tapName]) => move(tapName, now)));
        for (const [, way] of moved) way.resolved = now;
      }
      await keepForwarding();
    },
  };
}

/** Each interface in use, and whether IPv6 leaves by it. */
function interfacesOf(ways: Iterable<Way>): Map<string, boolean> {
  const interfaces = new Map<string, boolean>();
  for (const { resolved, withIpv6 } of ways) {
    if (resolved !== undefined) interfaces.set(resolved, withIpv6 || interfaces.get(resolved) === true);
  }
  return interfaces;
}
