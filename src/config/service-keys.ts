/** The keys of `[services]`. */
import * as z from "zod";
import { type LocalService, servicePorts } from "../network/services.ts";
import type { Finding } from "./explain.ts";
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

/** VMs tell them apart by their ports alone. */
export function checkServices(services: readonly LocalService[]): Finding[] {
  const taken = new Map<string, string>();
  return services.flatMap((service) =>
    servicePorts(service).flatMap(({ protocol, port }): Finding[] => {
      const other = taken.get(`${protocol}/${port}`);
      taken.set(`${protocol}/${port}`, service.name);
      if (other === undefined) return [];
      const text = `VMs find ${other} at port ${port} already; let this one listen at another port`;
      return [{ path: [service.name], text }];
    }),
  );
}

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
