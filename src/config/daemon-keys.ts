/** The keys of `[daemon]`. */
import * as z from "zod";
import type { Finding } from "./explain.ts";
import { key } from "./key.ts";
import { DEFAULT_SOCKET } from "./paths.ts";
import { changedKeys, renameKeys } from "./rename.ts";
import type { AdmissionConfig, DaemonConfig } from "./types.ts";
import {
  absolutePath,
  duration,
  isLoopback,
  listenAddress,
  pageAddress,
  unixGroup,
  userRange,
} from "./values.ts";

export const daemonTable = z.strictObject({
  socket: key(absolutePath.prefault(DEFAULT_SOCKET), {
    meaning: "The unix socket that the plugin and the command line talk to the daemon through.",
    example: "/run/fleetingd-test/fleetingd.sock",
  }),
  socket_group: key(unixGroup.prefault("fleetingd"), {
    meaning:
      "Members of this group of the host may use the socket; besides them only root may. " +
      "If there is no such group, the daemon warns and only root may.",
    example: "gitlab-runner",
  }),
  state_directory: key(absolutePath.prefault("/var/lib/fleetingd"), {
    meaning: "Where the daemon keeps the records of its VMs. Two daemons must not share it.",
    example: "/srv/fleetingd",
  }),
  hypervisor: key(z.enum(["auto", "cloud-hypervisor", "qemu"]).default("auto"), {
    meaning:
      "What runs the VMs. `auto`: Cloud Hypervisor where KVM works and the program `cloud-hypervisor` is on PATH, QEMU " +
      "elsewhere. VMs that run already go on with theirs.",
    example: "qemu",
  }),
  log_level: key(z.enum(["debug", "info", "warn", "error"]).default("info"), {
    meaning: "What is logged: this level and the more urgent ones.",
    example: "debug",
  }),
  log_format: key(z.enum(["auto", "text", "json", "journald"]).default("auto"), {
    meaning:
      "`text` for people, `json` for collectors (one object a line), `journald` for a systemd unit. " +
      "`auto` is `journald` under systemd and `text` otherwise.",
    example: "json",
  }),
  metrics_listen: key(listenAddress.prefault("off"), {
    kind: '`"off"`, or an IP address and a port',
    meaning:
      "Where Prometheus reads the daemon's metrics, by HTTP at `/metrics`. Whoever reaches this address may read them, so " +
      "name one that only your monitoring does. `fleetingd metrics` prints them in any case.",
    example: "127.0.0.1:9464",
  }),
  page_listen: key(pageAddress.prefault("off"), {
    kind: '`"off"`, a path, or an IP address and a port',
    meaning:
      "Where the [web page](web-page.md) is served: a unix socket, which is root's alone, or an address. Everybody on this host " +
      "reaches an address of the loopback; any other one needs `page_token_file`.",
    example: "127.0.0.1:9465",
  }),
  page_token_file: key(absolutePath.optional(), {
    meaning:
      "A file with the token that the page asks for: 16 characters or more on one line. Other users of this host must " +
      "not be able to read it.",
    example: "/etc/fleetingd/page-token",
    defaultText: "no token",
  }),
  max_concurrent_creates: key(countOrAuto(256).prefault("auto"), {
    kind: 'whole number, or `"auto"`',
    meaning:
      'How many VMs are made at a time, over all pools. `"auto"`: as many as the host has CPUs. ' +
      "More of them boot more slowly, and are not ready sooner.",
    unit: "VMs",
    example: 4,
  }),
  max_concurrent_deletes: key(z.int().min(1).max(256).default(4), {
    meaning: "How many VMs are torn down at a time, over all pools.",
    unit: "VMs",
    example: 8,
  }),
  images_gc_interval: key(duration(0, 365 * 86_400).prefault("1h"), {
    kind: "duration",
    meaning:
      "How often golden and base images that nobody uses are removed. `0` leaves that to `fleetingd gc`.",
    example: "24h",
  }),
  memory_overcommit_percent: key(z.int().min(10).max(1000).default(100), {
    meaning:
      "How much memory all VMs together may have, as a share of the host's: no VM is started beyond it. " +
      "More than 100 counts on VMs that don't use all of theirs.",
    unit: "%",
    example: 150,
  }),
  memory_reserve_mb: key(
    z
      .int()
      .min(0)
      .max(1024 * 1024)
      .default(512),
    {
      meaning: "Memory that stays for the host: no VM is started where less than this would be available.",
      unit: "MiB",
      example: 4096,
    },
  ),
  max_vcpus_per_core: key(z.int().min(1).max(256).default(16), {
    meaning: "How many virtual CPU cores all VMs together may have for each CPU of the host.",
    unit: "cores",
    example: 4,
  }),
  vm_uids: key(userRange.prefault("1900000000-1900065535"), {
    kind: 'range of numbers, or `"none"`',
    meaning:
      "The users that VMs' processes run as: each VM has a uid, and a gid of the same number, that no other one has. Nobody " +
      "else on the host may have any of them, so daemons beside each other need a range each. The last one is the " +
      "group of what several VMs read. The default is one that systemd keeps free for such uses. `\"none\"`: all are root's, though without root's capabilities.",
    example: "700000-700999",
  }),
  rules_guard: key(booleanOrAuto().prefault("auto"), {
    kind: '`true`, `false` or `"auto"`',
    meaning:
      "Whether VMs are shut off while somebody has removed the daemon's nftables rules (`nft flush ruleset`), until they " +
      "are back, which takes a second. It is a table with an owner, which some versions of nftables before 1.0.7 can't list as JSON: " +
      '`"auto"` does without it where `nft -j list tables` fails.',
    example: true,
  }),
  disk_reserve_gb: key(
    z
      .int()
      .min(0)
      .max(64 * 1024)
      .default(1),
    {
      meaning: "Space that stays free where VMs have their disks: no VM is started where there is less.",
      unit: "GiB",
      example: 50,
    },
  ),
  memory_pressure_limit_percent: key(z.int().min(0).max(100).default(40), {
    meaning:
      "No VM is started while programs of the host wait for memory for a larger share of the time than this " +
      "(pressure stall information, over ten seconds). 0 does not look at it.",
    unit: "%",
    example: 20,
  }),
});

type DaemonTable = z.output<typeof daemonTable>;

/** What each key is called in `DaemonConfig`, … */
const FIELDS = {
  socket: "socketPath",
  socket_group: "socketGroup",
  state_directory: "stateDirectory",
  hypervisor: "hypervisor",
  log_level: "logLevel",
  log_format: "logFormat",
  metrics_listen: "metricsListen",
  page_listen: "pageListen",
  page_token_file: "pageTokenFile",
  max_concurrent_creates: "maxConcurrentCreates",
  max_concurrent_deletes: "maxConcurrentDeletes",
  images_gc_interval: "imagesGcIntervalMs",
  vm_uids: "vmUsers",
  rules_guard: "rulesGuard",
} as const satisfies Partial<Record<keyof DaemonTable, keyof DaemonConfig>>;

/** … and in its `admission`. */
const ADMISSION_FIELDS = {
  memory_overcommit_percent: "memoryOvercommitPercent",
  memory_reserve_mb: "memoryReserveMiB",
  max_vcpus_per_core: "vcpusPerCore",
  disk_reserve_gb: "diskReserveGiB",
  memory_pressure_limit_percent: "memoryPressureLimitPercent",
} as const satisfies Partial<Record<keyof DaemonTable, keyof AdmissionConfig>>;

/** What `[daemon]` means. */
export function toDaemonConfig(table: DaemonTable): DaemonConfig {
  const filled = { ...table, vm_uids: table.vm_uids === "none" ? undefined : table.vm_uids };
  return Object.freeze({ ...renameKeys(filled, FIELDS), admission: renameKeys(filled, ADMISSION_FIELDS) });
}

/** A page that others than this host reach needs a token. */
export function checkPage({ pageListen: listen, pageTokenFile }: DaemonConfig): Finding[] {
  if (listen === undefined || "path" in listen || isLoopback(listen.host) || pageTokenFile !== undefined)
    return [];
  const text = `others than this host can reach ${listen.host}: name a file with a token in page_token_file, or listen on 127.0.0.1`;
  return [{ path: ["page_listen"], text }];
}

/** The keys of `[daemon]` in which two configurations differ. */
export function changedDaemonKeys(before: DaemonConfig, after: DaemonConfig): string[] {
  return [
    ...changedKeys(before, after, FIELDS),
    ...changedKeys(before.admission, after.admission, ADMISSION_FIELDS),
  ];
}

function booleanOrAuto(): z.ZodType<boolean | "auto", unknown> {
  return z.unknown().transform((value, context) => {
    if (value === "auto" || typeof value === "boolean") return value;
    context.addIssue({ code: "custom", message: 'expected true, false or "auto"' });
    return z.NEVER;
  });
}

function countOrAuto(max: number): z.ZodType<number | "auto", unknown> {
  return z.unknown().transform((value, context) => {
    if (value === "auto") return value;
    if (typeof value === "number" && Number.isInteger(value) && value >= 1 && value <= max) return value;
    context.addIssue({ code: "custom", message: `expected a whole number from 1 to ${max}, or "auto"` });
    return z.NEVER;
  });
}
