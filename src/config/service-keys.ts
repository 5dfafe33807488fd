/** The keys of `[services]`. */
import { z } from "zod";
import type { LocalService } from "../network/services.ts";
import { key } from "./key.ts";
import { deepFreeze } from "./rename.ts";
import { loopbackAddress } from "./values.ts";

const address = { kind: "an address of the host's loopback and a port", defaultText: "none" };

export const servicesTable = z.strictObject({
  dns: key(loopbackAddress.optional(), {
    ...address,
    meaning:
      "A resolver on this host that VMs ask, by UDP and TCP. It is the one of pools that set no `dns_servers`.",
    example: "127.0.0.1:53",
  }),
  registry_mirror: key(loopbackAddress.optional(), {
    ...address,
    meaning:
      "A pull-through mirror of Docker Hub on this host, by HTTP. Golden images are made with Docker, Podman and Buildah asking it first.",
    example: "127.0.0.1:5000",
  }),
  package_cache: key(loopbackAddress.optional(), {
    ...address,
    meaning:
      "An HTTP proxy for packages on this host. Golden images are made with it, and with apt asking it wherever it answers.",
    example: "127.0.0.1:3142",
  }),
});

/** What `[services]` means. */
export function toServices({
  dns,
  registry_mirror,
  package_cache,
}: z.output<typeof servicesTable>): readonly LocalService[] {
  const named = { dns, registry_mirror, package_cache };
  return deepFreeze(
    (["dns", "registry_mirror", "package_cache"] as const).flatMap((name) => {
      const at = named[name];
      return at === undefined ? [] : [{ name, address: at.host, port: at.port }];
    }),
  );
}
