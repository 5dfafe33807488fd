/** The daemon's configuration, complete and checked: every default is filled in, and nothing of it ever changes. */
import type { UserRange } from "../hypervisor/users.ts";
import type { ImageSource } from "../images/image-config.ts";
import type { LogLevel } from "../log.ts";
import type { Ipv6Prefix } from "../network/ipv6.ts";
import type { AllowedDestination, Ports } from "../network/policy.ts";
import type { LocalService, ServiceName } from "../network/services.ts";
import type { VmSubnet } from "../network/slots.ts";
import type { IncusConfig } from "../sources/incus/config.ts";
import type { LibvirtConfig } from "../sources/libvirt/config.ts";
import type { OpenStackConfig } from "../sources/openstack/config.ts";
import type { VcdConfig } from "../sources/vcd/config.ts";
import type { ListenAddress, PageAddress } from "./values.ts";

export interface Config {
  readonly daemon: DaemonConfig;
  /** By name; without a prototype, so a pool may have any name. */
  readonly pools: Readonly<Record<string, PoolConfig>>;
  /** By name, `default` always among them. */
  readonly images: Readonly<Record<string, ImageConfig>>;
  /** By name; `local` is not among them. */
  readonly sources: Readonly<Record<string, SourceConfig>>;
  /** Of this host, for its VMs. */
  readonly services: readonly LocalService[];
}

export interface DaemonConfig {
  readonly socketPath: string;
  /** Whose members may use the socket besides root; undefined: nobody. */
  readonly socketGroup: string | undefined;
  readonly stateDirectory: string;
  /** What runs new VMs. */
  readonly hypervisor: "auto" | "cloud-hypervisor" | "qemu";
  readonly logLevel: LogLevel;
  /** `auto`: journald under systemd, text otherwise. */
  readonly logFormat: "auto" | "text" | "json" | "journald";
  /** Where metrics are served; undefined: nowhere. */
  readonly metricsListen: ListenAddress | undefined;
  /** Where the web page is served; undefined: nowhere. */
  readonly pageListen: PageAddress | undefined;
  /** Where the token is that it asks for; undefined: it asks for none. */
  readonly pageTokenFile: string | undefined;
  /** How many instances are made at a time, over all pools; `auto`: as many as the host has CPUs. */
  readonly maxConcurrentCreates: number | "auto";
  readonly maxConcurrentDeletes: number;
  /** How often images that nobody uses are removed; 0: never by itself. */
  readonly imagesGcIntervalMs: number;
  /** Whether VMs are shut off while the nftables rules are away. */
  /** `auto`: where no other program suffers from it. */
  readonly rulesGuard: boolean | "auto";
  readonly admission: AdmissionConfig;
  /** The users that VMs' processes run as; undefined: root's. */
  readonly vmUsers: UserRange | undefined;
}

/** What of the host VMs may not use. */
export interface AdmissionConfig {
  /** The memory of all VMs may add up to this share of the host's. */
  readonly memoryOvercommitPercent: number;
  readonly memoryReserveMiB: number;
  readonly vcpusPerCore: number;
  readonly diskReserveGiB: number;
  /** Share of time that something waits for memory; 0: not looked at. */
  readonly memoryPressureLimitPercent: number;
}

/** One of the places that a pool has its instances at. */
export interface PoolSource {
  /** `local`, or of a section `[sources.<name>]`. */
  readonly name: string;
  /** Undefined for this host. */
  readonly config: SourceConfig | undefined;
  /** Undefined: as many as the source itself allows. */
  readonly maxInstances: number | undefined;
  /** How many of the pool's warm instances are there; undefined: what the other sources leave. */
  readonly warmInstances: number | undefined;
}

export interface PoolConfig {
  /** In the order in which they are asked. */
  readonly sources: readonly PoolSource[];
  /** The name of one of `Config.images`. */
  readonly image: string;
  /** How many unclaimed instances are kept ready. */
  readonly warmInstances: number;
  /** How many instances there may be in all; below the subnet's number of slots, for the prebuild takes one. */
  readonly maxInstances: number;
  readonly bootTimeoutMs: number;
  readonly prebuildTimeoutMs: number;
  /** How old the golden image gets before a new one is made; 0: for ever. */
  readonly prebuildIntervalMs: number;
  /** 0: its VMs are not asked. */
  readonly heartbeatTimeoutMs: number;
  /** 0: for ever. */
  readonly maxIdleAgeMs: number;
  /** 0: for ever. */
  readonly orphanTimeoutMs: number;
  readonly bootProfile: "fast" | "compatible";
  /** Whether VMs go on from a snapshot or boot; `auto`: from a snapshot where there can be one. */
  readonly cloneMode: "auto" | "snapshot" | "boot";
  /** What warm VMs do until they are claimed; paused ones take no CPU. */
  readonly idleMode: "running" | "paused";
  /** IPv4 addresses; none: the host's own resolvers. */
  readonly dnsServers: readonly string[];
  /** The name of an interface; `auto`: the default route's. */
  readonly egressInterface: string;
  /** Absolute path. */
  readonly diskDirectory: string;
  readonly subnet: VmSubnet;
  /** Undefined: no IPv6. */
  readonly subnet6?: Ipv6Prefix | undefined;
  readonly egress: "all" | "none";
  /** Prefixes or `private`. */
  readonly egressDeny: readonly string[];
  readonly egressAllow: readonly AllowedDestination[];
  readonly hostServices: readonly Ports[];
  /** Which of `Config.services` VMs may use; undefined: all, or none where `egress` is `none`. */
  readonly services: readonly ServiceName[] | undefined;
  /** 0: unlimited, and so below. */
  readonly bandwidthUpMbit: number;
  readonly bandwidthDownMbit: number;
  readonly maxConnections: number;
  readonly newConnectionsPerSecond: number;
  readonly vcpus: number;
  readonly memoryMiB: number;
  readonly diskSizeGiB: number;
  /** What a VM's process may have beyond the guest's memory. */
  readonly memoryOverheadMiB: number;
  /** 100 is that of everything else on the host. */
  readonly cpuWeight: number;
  /** 100 is one processor of the host. */
  readonly cpuLimitPercent: number;
  /** 0: unlimited, and so below. */
  readonly diskMiBPerSecond: number;
  readonly diskOperationsPerSecond: number;
  /** Shell commands, run as root and in order while the golden image is made. */
  readonly prebuildExtraCommands: readonly string[];
  readonly enableVirtioConsole: boolean;
  /** Packages of the distribution that the golden image has. */
  readonly prebuildPackages: readonly string[];
  /** Whether the golden image has all packages upgraded. */
  readonly prebuildPackageUpgrade: boolean;
}

/** A cloud and what its instances are made of; the clouds' own types. */
export type SourceConfig = IncusConfig | LibvirtConfig | OpenStackConfig | VcdConfig;

/** Where a base image comes from; the images' own type, under the name that it has in the configuration. */
export type ImageConfig = ImageSource;
