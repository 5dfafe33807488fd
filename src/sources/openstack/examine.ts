/** Whether what `server_spec` names is there: without it Nova refuses each server, or fails to build it. */
import { FleetingdError } from "../../errors.ts";
import type { OpenStackConfig } from "./config.ts";
import type { Nova } from "./nova.ts";

/** @throws FleetingdError INVALID_CONFIG with all that is missing */
export async function examineSpec(
  nova: Nova,
  spec: OpenStackConfig["serverSpec"],
  signal: AbortSignal,
): Promise<void> {
  const missing: string[] = [];
  for (const { what, key, service, path } of namedBy(spec)) {
    if (!(await nova.has(service, path, signal))) missing.push(`there is no ${what} (server_spec.${key})`);
  }
  if (missing.length > 0) throw new FleetingdError("INVALID_CONFIG", missing.join("; "));
}

interface Named {
  what: string;
  key: string;
  service: "compute" | "network";
  path: string;
}

function namedBy(spec: OpenStackConfig["serverSpec"]): Named[] {
  const { flavorRef, key_name: keyName, networks } = spec;
  // A reference may be an address, too, as Nova's own answers have them.
  const flavor = String(flavorRef).split("/").at(-1) ?? "";
  const named: Named[] = [
    {
      what: `flavor ${flavor}`,
      key: "flavorRef",
      service: "compute",
      path: `/flavors/${encodeURIComponent(flavor)}`,
    },
  ];
  if (typeof keyName === "string") {
    const path = `/os-keypairs/${encodeURIComponent(keyName)}`;
    named.push({ what: `key pair ${keyName}`, key: "key_name", service: "compute", path });
  }
  for (const { uuid } of Array.isArray(networks) ? (networks as { uuid?: unknown }[]) : []) {
    if (typeof uuid !== "string") continue;
    const path = `/v2.0/networks/${encodeURIComponent(uuid)}`;
    named.push({ what: `network ${uuid}`, key: "networks", service: "network", path });
  }
  return named;
}
