/**
 * Services on the host's loopback that VMs may use: each VM finds them at one address that is the same for all, and at
 * its gateway's. Nobody else is let in by that, and of the loopback nothing else is opened.
 */

/** Where VMs find them. Of RFC 3927's reserved part, so nothing gives itself this address; containers in a VM get there, too. */
export const SERVICE_ADDRESS = "169.254.0.1";

export const SERVICE_NAMES = ["dns", "registry_mirror", "package_cache"] as const;
export type ServiceName = (typeof SERVICE_NAMES)[number];

export interface LocalService {
  name: ServiceName;
  /** An IPv4 address of the host's loopback, where it listens. */
  address: string;
  port: number;
}

const DNS_PORT = 53;

/** The ports at which VMs find it. */
export function servicePorts({ name, port }: LocalService): { protocol: "tcp" | "udp"; port: number }[] {
  if (name !== "dns") return [{ protocol: "tcp", port }];
  return (["tcp", "udp"] as const).map((protocol) => ({ protocol, port: DNS_PORT }));
}

/** Where VMs find a service that speaks HTTP; undefined if it is not among them. */
export function serviceUrl(services: readonly LocalService[], name: ServiceName): string | undefined {
  const service = services.find((one) => one.name === name);
  return service && `http://${SERVICE_ADDRESS}:${service.port}`;
}
