/** Which libvirt daemon, and what its domains are made of. */
import type { RemoteConfig } from "../remote/config.ts";

export interface LibvirtConfig extends RemoteConfig {
  readonly type: "libvirt";
  /** As `virsh --connect` takes it; without a password. */
  readonly uri: string;
  /** A volume of the storage pool, or an absolute path on the daemon's host that some pool of it has. */
  readonly image: string;
  /** Where overlays and seeds are made. */
  readonly storagePool: string;
  readonly network: string;
  /** A bridge of the daemon's host, instead of the network. */
  readonly bridge: string | undefined;
  /** Whether instances can't reach each other. */
  readonly isolated: boolean;
  readonly vcpus: number;
  readonly memoryMiB: number;
  /** As libvirt writes it; undefined: the image's. */
  readonly diskSize: string | undefined;
  readonly domainType: "auto" | "kvm" | "qemu";
  readonly machine: string;
  /** Absolute path of a Handlebars template; undefined: our own. */
  readonly domainTemplate: string | undefined;
  /** More of what cloud-init is told. */
  readonly userData: string | undefined;
  readonly addressFrom: "auto" | AddressSource;
  /** `$random` becomes the instance's id. */
  readonly nameTemplate: string;
}

/** Who knows a domain's address: the network's DHCP server, an agent in the domain, or the neighbours of the daemon's host. */
export type AddressSource = "lease" | "agent" | "arp";
