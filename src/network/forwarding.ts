/**
 * Forwarding on the way out. Linux looks at the setting of the interface that a packet comes in by, so the TAP and
 * the egress interface (for the answers) are enough, and the global switch stays as it is.
 */

import { exists } from "../host/files.ts";
import type { Logger } from "../log.ts";
import { checkInterfaceName } from "./interface-name.ts";
import { IPV4_SETTINGS, isForwarding, setForwarding } from "./sysctl.ts";

export interface EgressForwarding {
  /** Sees to it that the egress interface forwards. @throws FleetingdError NOT_FOUND, PERMISSION, INVALID_CONFIG */
  enable(interfaceName: string): Promise<void>;
  /** The interfaces that did not forward before `enable`. */
  readonly changed: ReadonlySet<string>;
  /** Puts these back as they were, unless forwarding was switched on for the whole host in the meantime. */
  restore(): Promise<void>;
}

export function createEgressForwarding(logger: Logger): EgressForwarding {
  const changed = new Set<string>();
  return {
    changed,
    async enable(interfaceName) {
      if (!(await setForwarding(checkInterfaceName(interfaceName), true))) return;
      changed.add(interfaceName);
      logger.info("switched on IPv4 forwarding of the egress interface", { interface: interfaceName });
    },
    async restore() {
      const everywhere = await isForwarding("all");
      for (const interfaceName of changed) {
        if (!everywhere && (await exists(`${IPV4_SETTINGS}/${interfaceName}`))) {
          await setForwarding(interfaceName, false);
          logger.info("switched off IPv4 forwarding of the egress interface", { interface: interfaceName });
        }
        changed.delete(interfaceName);
      }
    },
  };
}
