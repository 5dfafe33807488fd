/** The keys of `[sources.<name>]` of type `vcd`. */
import * as z from "zod";
import { PROTOCOLS } from "../sources/source.ts";
import type { VcdConfig } from "../sources/vcd/config.ts";
import { key } from "./key.ts";
import { REMOTE_FIELDS, remoteKeys } from "./remote-keys.ts";
import { renameKeys } from "./rename.ts";
import { absolutePath, matching, secret, serverUrl } from "./values.ts";

const MIB_PER_GIB = 1_024;

const entity = z.string().min(1).max(128);
const prefix = matching(/^[A-Za-z0-9][A-Za-z0-9._-]{0,59}$/, "1 to 60 of a-z, A-Z, 0-9, ., _ and -");

export const vcdTable = z
  .strictObject({
    type: key(z.literal("vcd"), {
      meaning: "A virtual data center of VMware Cloud Director.",
      example: "vcd",
    }),
    url: key(serverUrl, {
      meaning: "Where Cloud Director is, with or without `/api` at the end.",
      example: "https://vcd.example.org",
    }),
    org: key(entity, {
      meaning: "The organization that the token is of, as its address says it; `System` is the provider's.",
      example: "ci",
    }),
    token: key(secret.optional(), {
      kind: "text",
      meaning: "An API token of a user who may make vApps there.",
      example: "c2VjcmV0",
      defaultText: "what `token_file` has",
    }),
    token_file: key(absolutePath.optional(), {
      meaning:
        "A file with that token and nothing else, which only root should be able to read. It counts before `token`.",
      example: "/etc/fleetingd/vcd-token",
      defaultText: "none: `token` must be given",
    }),
    ca_certificate: key(absolutePath.optional(), {
      meaning: "A PEM file with the certificates of the authorities that the server's own may be of.",
      example: "/etc/fleetingd/vcd-ca.crt",
      defaultText: "authorities that Node.js trusts",
    }),
    insecure: key(z.boolean().default(false), {
      meaning:
        "Whether anybody who answers is taken for the server. Whoever sits on the way can then read the token.",
      example: true,
    }),
    virtual_datacenter: key(entity, {
      meaning: "The virtual data center that vApps are made in.",
      example: "ci-vdc",
    }),
    network: key(entity, {
      meaning: "The data center's network that machines are in. The runner must be able to reach it.",
      example: "ci-net",
    }),
    ip_allocation_mode: key(z.enum(["POOL", "DHCP"]).default("POOL"), {
      meaning: "Whether addresses are of the network's static pool, or of a DHCP server in it.",
      example: "DHCP",
    }),
    catalog: key(entity, { meaning: "The catalog with the template.", example: "templates" }),
    template: key(entity, {
      meaning: "A vApp template of one VM that has VMware Tools and an SSH server, or WinRM.",
      example: "debian-12",
    }),
    storage_profile: key(entity.optional(), {
      meaning: "The storage profile of the machines' disks.",
      example: "fast",
      defaultText: "the data center's default",
    }),
    cpu_count: key(z.int().min(1).max(256).optional(), {
      meaning: "Virtual CPUs of each machine.",
      unit: "CPUs",
      example: 4,
      defaultText: "the template's",
    }),
    cores_per_socket: key(z.int().min(1).max(256).optional(), {
      meaning: "Into how large sockets those CPUs are put; `cpu_count` must be a multiple of it.",
      unit: "cores",
      example: 2,
      defaultText: "the template's",
    }),
    memory_mb: key(
      z
        .int()
        .min(128)
        .max(16 * 1024 * 1024)
        .multipleOf(4)
        .optional(),
      {
        meaning: "Memory of each machine, in MiB whatever the key's name says: a multiple of 4.",
        unit: "MiB",
        example: 8192,
        defaultText: "the template's",
      },
    ),
    disk_size_gb: key(
      z
        .int()
        .min(0)
        .max(64 * MIB_PER_GIB)
        .default(0),
      {
        meaning:
          "To what size a machine's first disk grows, in GiB whatever the key's name says. No disk is made smaller.",
        unit: "GiB",
        example: 100,
        defaultText: "the template's",
      },
    ),
    vapp_name_prefix: key(prefix.prefault("fleetingd"), {
      meaning: "What the names of vApps begin with.",
      example: "ci",
    }),
    description: key(z.string().max(100).default("Made by fleetingd"), {
      meaning: "What the descriptions of vApps begin with; whose they are follows.",
      example: "Runners of team A",
    }),
    protocol: key(z.enum(PROTOCOLS).default("ssh"), {
      meaning:
        "How the runner connects. Over WinRM, which is Windows' own, it needs a password: each machine has one of its own " +
        "unless there is an `admin_password`.",
      example: "winrm",
    }),
    port: key(z.int().min(1).max(65_535).optional(), {
      meaning: "The port that the runner connects to.",
      example: 2222,
      defaultText: "22, with `winrm` 5985, with `winrm+https` 5986",
    }),
    admin_password: key(secret.optional(), {
      kind: "text",
      meaning: "The password that `root` or `Administrator` gets in every machine.",
      example: "c2VjcmV0",
      defaultText: "what `admin_password_file` has",
    }),
    admin_password_file: key(absolutePath.optional(), {
      meaning: "A file with that password and nothing else. It counts before `admin_password`.",
      example: "/etc/fleetingd/vcd-password",
      defaultText: "none: the template's way with passwords stays",
    }),
    ...remoteKeys,
    ssh_key: key(secret.optional(), {
      kind: "text",
      meaning: "A private key that every machine gets the public part of.",
      example: "-----BEGIN OPENSSH PRIVATE KEY-----\n…",
      defaultText: "what `ssh_key_path` has",
    }),
    ssh_key_path: key(absolutePath.optional(), {
      meaning: "A file with that key. It counts before `ssh_key`.",
      example: "/etc/fleetingd/id_ed25519",
      defaultText: "a key of its own for each machine, which guest customization puts there",
    }),
    max_concurrent_creates: key(z.int().min(1).max(1_000).default(3), {
      meaning:
        "How many machines are made there at a time: Cloud Director limits the operations of an organization.",
      unit: "instances",
      example: 8,
    }),
    max_concurrent_deletes: key(z.int().min(1).max(1_000).default(5), {
      meaning: "How many machines are deleted there at a time.",
      unit: "instances",
      example: 8,
    }),
  })
  .superRefine(({ token, token_file, ...table }, context) => {
    const fail = (path: string, message: string): void =>
      void context.addIssue({ code: "custom", path: [path], message });
    if (token === undefined && token_file === undefined) fail("token_file", "missing; or write token");
    const { cpu_count: cpus, cores_per_socket: cores } = table;
    if (cpus !== undefined && cores !== undefined && cpus % cores !== 0)
      fail("cores_per_socket", `cpu_count, which is ${cpus}, must be a multiple of it, but this is ${cores}`);
  });

const FIELDS = {
  ...REMOTE_FIELDS,
  type: "type",
  org: "org",
  token: "token",
  token_file: "tokenFile",
  ca_certificate: "caCertificate",
  insecure: "insecure",
  virtual_datacenter: "virtualDatacenter",
  network: "network",
  ip_allocation_mode: "ipAllocationMode",
  catalog: "catalog",
  template: "template",
  storage_profile: "storageProfile",
  cpu_count: "cpuCount",
  cores_per_socket: "coresPerSocket",
  memory_mb: "memoryMiB",
  vapp_name_prefix: "vappNamePrefix",
  description: "description",
  protocol: "protocol",
  port: "port",
  ssh_key: "sshKey",
  admin_password: "adminPassword",
  admin_password_file: "adminPasswordFile",
} as const;

export function toVcdConfig({ url, disk_size_gb, ...table }: z.output<typeof vcdTable>): VcdConfig {
  return Object.freeze({
    ...renameKeys(table, FIELDS),
    url: url.replace(/\/api$/, ""),
    diskGiB: disk_size_gb === 0 ? undefined : disk_size_gb,
  });
}
