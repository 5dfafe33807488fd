/** The keys of `[pools.<name>]`, which are the keys of the runner's `plugin_config` as well. */
import * as z from "zod";
import { LOCAL } from "../sources/source.ts";
import { key } from "./key.ts";
import { network, policy } from "./network-keys.ts";
import { renameKeys } from "./rename.ts";
import type { Config, PoolConfig } from "./types.ts";
import { absolutePath, command, duration, name, packageName } from "./values.ts";

const DAY_SECONDS = 86_400;
/** A /8 has this many slots. */
const MOST_SLOTS = 2 ** 22;

const sizes = {
  warm_instances: key(z.int().min(0).max(MOST_SLOTS).default(1), {
    meaning:
      "How many VMs are kept booted ahead of demand. A job that finds one waiting starts at once; 0 saves the memory.",
    unit: "VMs",
    example: 4,
  }),
  max_instances: key(z.int().min(1).max(MOST_SLOTS).optional(), {
    meaning:
      "How many VMs there may be at a time, warm ones included. It has to be at least the runner's own " +
      "`max_instances`, or the runner does not start.",
    unit: "VMs",
    example: 10,
    defaultText:
      "as many as its sources may have: for this host, those that `vm_subnet` has room for, 63 in a /24",
  }),
  vm_num_cpu_cores: key(z.int().min(1).max(1024).default(2), {
    meaning:
      "Virtual CPU cores of each VM. They are shared with the host: more of them than it has is possible.",
    unit: "cores",
    example: 8,
  }),
  vm_memory_mb: key(
    z
      .int()
      .min(128)
      .max(16 * 1024 * 1024)
      .default(2048),
    {
      meaning:
        "Memory of each VM. The unit is MiB (1024 × 1024 bytes), whatever the key's name says. What a VM frees " +
        "goes back to the host.",
      unit: "MiB",
      example: 16384,
    },
  ),
  vm_disk_size_gb: key(
    z
      .int()
      .min(1)
      .max(64 * 1024)
      .default(10),
    {
      meaning:
        "Size of each VM's disk as the VM sees it. The unit is GiB (1024³ bytes), whatever the key's name says. " +
        "Only what a VM writes takes space on the host.",
      unit: "GiB",
      example: 30,
    },
  ),
};

const MOST_SOURCES = 16;
/** What stands in the list `sources`: a name, or a name with bounds. */
const sourceEntry = z.union([
  name.transform((source) => ({ source, max_instances: undefined, warm_instances: undefined })),
  z.strictObject({
    source: name,
    max_instances: z.int().min(1).max(MOST_SLOTS).optional(),
    warm_instances: z.int().min(0).max(MOST_SLOTS).optional(),
  }),
]);

const sources = {
  sources: key(z.array(sourceEntry).min(1).max(MOST_SOURCES).prefault([LOCAL]), {
    kind: "list of names or of tables with `source`, `max_instances` and `warm_instances`",
    meaning:
      "Where instances are made, in this order: when one has no room or fails, the next one is asked. `local` is this host, the " +
      "others are sections `[sources.<name>]`. Each may have a maximum, and a share of the warm instances; the first one " +
      "without a share gets what the others leave.",
    example: [
      { source: "local", max_instances: 8 },
      { source: "rack", max_instances: 20, warm_instances: 1 },
    ],
  }),
};

const image = {
  image: key(name.prefault("default"), {
    meaning: "The name of an image of `[images]` that the pool's VMs are made from.",
    example: "noble",
  }),
  vm_prebuild_cloudinit_extra_cmds: key(z.array(command).max(1000).default([]), {
    meaning:
      "Shell commands that the golden image is made with: each is run once, as root and in this order, when the " +
      "image is built and never when a VM starts. If one fails, the prebuild fails and the golden image that there " +
      "was stays in use. Any quoting is fine.",
    example: ["apt-get install -y podman", 'su - ubuntu -c "whoami"'],
  }),
  prebuild_packages: key(z.array(packageName).max(1000).default([]), {
    meaning:
      "Packages of the distribution to install in the golden image, before the extra commands are run.",
    example: ["git", "build-essential"],
  }),
  prebuild_package_upgrade: key(z.boolean().default(false), {
    meaning: "Whether all packages of the golden image are upgraded when it is made.",
    example: true,
  }),
  prebuild_timeout: key(duration(10, DAY_SECONDS).prefault("30m"), {
    kind: "duration",
    meaning: "How long making the golden image may take; after that it counts as failed.",
    example: "1h",
  }),
  prebuild_interval: key(duration(0, 365 * DAY_SECONDS).prefault("24h"), {
    kind: "duration",
    meaning:
      "How old the golden image gets before a new one is made in the background, with a newer base image and newer " +
      "packages where there are any. Idle VMs are then replaced one by one. `0` is never.",
    example: "168h",
  }),
};

/** What the process of each VM may take of the host, where systemd runs it. */
const limits = {
  vm_memory_overhead_mb: key(
    z
      .int()
      .min(64)
      .max(64 * 1024)
      .default(512),
    {
      meaning:
        "How much memory the process of a VM may have beyond `vm_memory_mb`; one that takes more is ended by the kernel.",
      unit: "MiB",
      example: 1024,
    },
  ),
  vm_cpu_weight: key(z.int().min(1).max(10_000).default(100), {
    meaning:
      "Each VM's share of the host's CPUs when they are busy. The VMs all together have the share of one service of the " +
      "host (`fleetingd.slice`), which `systemctl set-property` changes.",
    example: 50,
  }),
  vm_cpu_limit_percent: key(z.int().min(10).max(102_400).optional(), {
    meaning: "How much CPU time the process of a VM may have at most; 100 is one CPU of the host.",
    unit: "%",
    example: 200,
    defaultText: "100 for each of `vm_num_cpu_cores`, and 100 more for its devices",
  }),
  vm_disk_mb_per_second: key(z.int().min(0).max(1_000_000).default(0), {
    meaning: "How much each VM may read from the host's disk, and how much write. 0 is unlimited.",
    unit: "MiB/s",
    example: 200,
  }),
  vm_disk_operations_per_second: key(z.int().min(0).max(10_000_000).default(0), {
    meaning:
      "How many times each VM may read from the host's disk, and how many times write. 0 is unlimited.",
    unit: "operations/s",
    example: 5000,
  }),
};

const machine = {
  vm_disk_directory: key(absolutePath.prefault("/var/lib/fleetingd"), {
    meaning:
      "Where images and the disks of the VMs are kept. Clones are cheapest on a file system with reflinks (XFS, " +
      "btrfs); tmpfs works, if the memory is there.",
    example: "/srv/fleetingd",
  }),
  vm_enable_virtio_console: key(z.boolean().default(false), {
    meaning:
      "Whether the VM's console is a virtio device instead of a serial port. Its output goes to the VM's " +
      "`console.log` either way.",
    example: true,
  }),
  boot_profile: key(z.enum(["fast", "compatible"]).default("fast"), {
    meaning:
      "`fast` boots each VM with only what a job needs; `compatible` boots the whole system as its distribution " +
      "does, cloud-init included.",
    example: "compatible",
  }),
  clone_mode: key(z.enum(["auto", "snapshot", "boot"]).default("auto"), {
    meaning:
      "How a VM begins. `snapshot`: it goes on from memory and disk of one that has booted before, and gets an identity of " +
      "its own. `boot`: it boots. `auto`: the first where that is possible, else the second.",
    example: "auto",
  }),
  idle_mode: key(z.enum(["running", "paused"]).default("running"), {
    meaning:
      "What warm VMs do until a runner claims them. `paused` ones take no CPU, give memory back first (those that have booted), and " +
      "are not asked whether they still answer; a claim resumes them and sets their clock, which delays the job by an SSH login.",
    example: "paused",
  }),
  boot_timeout: key(duration(1, DAY_SECONDS).prefault("5m"), {
    kind: "duration",
    meaning:
      "How long a VM may take from its start to the first SSH login; after that it is deleted and another one made.",
    example: "2m30s",
  }),
};

const life = {
  heartbeat_timeout: key(duration(0, DAY_SECONDS).prefault("5m"), {
    kind: "duration",
    meaning:
      "How long a VM may not answer on its SSH port; after that it counts as dead and is replaced. `0` asks nothing.",
    example: "2m",
  }),
  max_idle_age: key(duration(0, 30 * DAY_SECONDS).prefault("24h"), {
    kind: "duration",
    meaning: "How long a VM may wait for a job; after that a new one takes its place. `0` is for ever.",
    example: "6h",
  }),
  orphan_timeout: key(duration(0, 30 * DAY_SECONDS).prefault("1h"), {
    kind: "duration",
    meaning:
      "How long VMs are kept for a plugin that is away; after that they are deleted, whatever runs in them. `0` is for ever.",
    example: "15m",
  }),
};

export const poolTable = z.strictObject({
  ...sizes,
  ...sources,
  ...image,
  ...network,
  ...policy,
  ...limits,
  ...machine,
  ...life,
});
export type PoolTable = z.output<typeof poolTable>;
export type PoolKey = keyof PoolTable;

/** What each key is called in `PoolConfig`. */
export const POOL_FIELDS = {
  warm_instances: "warmInstances",
  max_instances: "maxInstances",
  vm_num_cpu_cores: "vcpus",
  vm_memory_mb: "memoryMiB",
  vm_disk_size_gb: "diskSizeGiB",
  sources: "sources",
  image: "image",
  vm_prebuild_cloudinit_extra_cmds: "prebuildExtraCommands",
  prebuild_packages: "prebuildPackages",
  prebuild_package_upgrade: "prebuildPackageUpgrade",
  prebuild_timeout: "prebuildTimeoutMs",
  prebuild_interval: "prebuildIntervalMs",
  egress_interface: "egressInterface",
  vm_subnet: "subnet",
  dns_servers: "dnsServers",
  vm_subnet6: "subnet6",
  egress: "egress",
  egress_deny: "egressDeny",
  egress_allow: "egressAllow",
  host_services: "hostServices",
  services: "services",
  bandwidth_up_mbit: "bandwidthUpMbit",
  bandwidth_down_mbit: "bandwidthDownMbit",
  max_connections: "maxConnections",
  max_new_connections_per_second: "newConnectionsPerSecond",
  vm_memory_overhead_mb: "memoryOverheadMiB",
  vm_cpu_weight: "cpuWeight",
  vm_cpu_limit_percent: "cpuLimitPercent",
  vm_disk_mb_per_second: "diskMiBPerSecond",
  vm_disk_operations_per_second: "diskOperationsPerSecond",
  vm_disk_directory: "diskDirectory",
  vm_enable_virtio_console: "enableVirtioConsole",
  boot_profile: "bootProfile",
  clone_mode: "cloneMode",
  idle_mode: "idleMode",
  boot_timeout: "bootTimeoutMs",
  heartbeat_timeout: "heartbeatTimeoutMs",
  max_idle_age: "maxIdleAgeMs",
  orphan_timeout: "orphanTimeoutMs",
} as const satisfies Record<PoolKey, keyof PoolConfig>;

/**
 * The pool that a table means; one slot of the subnet is kept for the VM that makes the golden image.
 * @param known The sections `[sources.<name>]`; `checkPool` has said that those of the table are among them.
 */
export function toPoolConfig(table: PoolTable, known: Config["sources"] = {}): PoolConfig {
  const maxInstances = table.max_instances ?? defaultMaximum(table, known);
  const sources = table.sources.map(({ source, max_instances, warm_instances }) => ({
    name: source,
    config: source === LOCAL ? undefined : known[source],
    maxInstances: max_instances,
    warmInstances: warm_instances,
  }));
  const cpuLimit = table.vm_cpu_limit_percent ?? (table.vm_num_cpu_cores + 1) * 100;
  const filled = { ...table, sources, max_instances: maxInstances, vm_cpu_limit_percent: cpuLimit };
  return renameKeys(filled, POOL_FIELDS);
}

/** How many VMs the subnet has room for besides the prebuild's. */
export function largestPool(table: Pick<PoolTable, "vm_subnet">): number {
  return table.vm_subnet.slotCount - 1;
}

/** As many as its sources may have together. */
export function defaultMaximum(table: PoolTable, known: Config["sources"]): number {
  return table.sources
    .map((entry) => entry.max_instances ?? known[entry.source]?.maxInstances ?? largestPool(table))
    .reduce((sum, one) => sum + one, 0);
}
