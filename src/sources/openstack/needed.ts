/** What `server_spec` names: without it Nova refuses each server, or fails to build it. */
import type { Needed } from "../remote/needed.ts";
import type { ServerSpec } from "./config.ts";

export interface NeededOfService extends Needed {
  service: "compute" | "network";
}

export function neededOf({ flavorRef, key_name: keyName, networks }: ServerSpec): NeededOfService[] {
  // A reference may be an address, too, as Nova's own answers have them.
  const flavor = String(flavorRef).split("/").at(-1) ?? "";
  const named: (readonly [
    service: "compute" | "network",
    kind: string,
    key: string,
    folder: string,
    id: unknown,
  ])[] = [
    ["compute", "flavor", "flavorRef", "/flavors", flavor],
    ["compute", "key pair", "key_name", "/os-keypairs", keyName],
    ...(Array.isArray(networks) ? networks : []).map(
      ({ uuid }: { uuid?: unknown }) => ["network", "network", "networks", "/v2.0/networks", uuid] as const,
    ),
  ];
  return named.flatMap(([service, kind, key, folder, id]) =>
    typeof id === "string"
      ? [
          {
            service,
            what: `${kind} ${id}`,
            key: `server_spec.${key}`,
            path: `${folder}/${encodeURIComponent(id)}`,
          },
        ]
      : [],
  );
}
