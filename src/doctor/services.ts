/** Whether the host's services answer, which VMs are led to. */
import { once } from "node:events";
import { connect } from "node:net";
import type { Config } from "../config/types.ts";
import { messageOf, systemErrorCode } from "../errors.ts";
import { withTimeout } from "../host/wait.ts";
import type { LocalService } from "../network/services.ts";
import { type Check, type Finding, ok, warn } from "./finding.ts";

const TIMEOUT_MS = 2_000;

export function serviceChecks({ services }: Config): Check[] {
  if (services.length === 0) return [];
  return [{ area: "services", look: () => Promise.all(services.map(askService)) }];
}

/** A resolver answers by TCP as well. */
async function askService({ name, address, port }: LocalService): Promise<Finding> {
  const socket = connect({ host: address, port });
  try {
    await withTimeout(once(socket, "connect"), TIMEOUT_MS, "an answer");
    return ok(`${name} answers at ${address}:${port}`);
  } catch (error) {
    return warn(
      `${name} does not answer at ${address}:${port} (${systemErrorCode(error) ?? messageOf(error)})`,
      `Start it, or take ${name} out of [services].`,
    );
  } finally {
    socket.destroy();
  }
}
