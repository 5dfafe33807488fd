/**
 * Forwarding on the way out. Linux looks at the setting of the interface that a packet comes in by, so the TAP and
 * the egress interface (for the answers) are enough, and the global switch stays as it is.
 */

import { exists } from "../host/files.ts";
import type { Logger } from "../log.ts";
import { checkInterfaceName } from "./interface-name.ts";
import { IPV4_SETTINGS, isForwarding, setForwarding, setForwarding6 } from "./sysctl.ts";

export interface EgressForwarding {
  /**
   * Sees to it that the egress interface forwards IPv4, and IPv6 if it is wanted; says whether IPv4 had to be switched on.
   * @throws FleetingdError NOT_FOUND, PERMISSION, INVALID_CONFIG, UNAVAILABLE
   */
  enable(interfaceName: string, withIpv6: boolean): Promise<boolean>;
  /** The interfaces that did not forward before `enable`. */
  readonly changed: ReadonlySet<string>;
  /** Puts these back as they were, unless forwarding was switched on for the whole host in the meantime. */
  restore(): Promise<void>;
}

export function createEgressForwarding(logger: Logger): EgressForwarding {
  const changed = new Set<string>();
  const changed6 = new Set<string>();
  return {
    changed,
    async enable(interfaceName, withIpv6) {
      const fields = { interface: checkInterfaceName(interfaceName) };
      const wasOff = await setForwarding(interfaceName, true);
      if (wasOff) {
        changed.add(interfaceName);
        logger.info("switched on IPv4 forwarding of the egress interface", fields);
      }
      if (withIpv6 && (await setForwarding6(interfaceName, true))) {
        changed6.add(interfaceName);
        logger.info("switched on IPv6 forwarding of the egress interface", fields);
      }
      return wasOff;
    },
    async restore() {
      const everywhere = await isForwarding("all");
      for (const interfaceName of new Set([...changed, ...changed6])) {
        if (!(await exists(`${IPV4_SETTINGS}/${interfaceName}`))) continue;
        if (!everywhere && changed.has(interfaceName)) await setForwarding(interfaceName, false);
        if (changed6.has(interfaceName)) await setForwarding6(interfaceName, false);
        logger.info("forwarding of the egress interface is as it was before", { interface: interfaceName });
      }
      changed.clear();
      changed6.clear();
    },
  };
}
