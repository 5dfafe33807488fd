/** The keys of `[sources.<name>]` of type `incus`. */
import * as z from "zod";
import type { IncusConfig } from "../sources/incus/config.ts";
import { describeValue } from "./explain.ts";
import { key } from "./key.ts";
import { REMOTE_FIELDS, remoteKeys } from "./remote-keys.ts";
import { renameKeys } from "./rename.ts";
import { absolutePath, instanceSize, matching, serverUrl } from "./values.ts";

const NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/;
const ENTITY = "a name as Incus has it";
const SIZE = /^\d{1,6}(KiB|MiB|GiB|TiB|kB|MB|GB|TB)$/;
const DEFAULT_SOCKET = "/var/lib/incus/unix.socket";

export const incusTable = z
  .strictObject({
    type: key(z.literal("incus"), { meaning: "An Incus server or cluster.", example: "incus" }),
    url: key(serverUrl.optional(), {
      meaning: "Where the server is. It needs `client_certificate` and `client_key`.",
      example: "https://incus.example.org:8443",
      defaultText: "the local socket",
    }),
    socket: key(absolutePath.prefault(DEFAULT_SOCKET), {
      meaning: "The server's unix socket, if there is no `url`.",
      example: "/run/incus/unix.socket",
    }),
    client_certificate: key(absolutePath.optional(), {
      meaning: "A PEM file with the certificate that the server trusts.",
      example: "/etc/fleetingd/incus.crt",
      defaultText: "none",
    }),
    client_key: key(absolutePath.optional(), {
      meaning: "A PEM file with that certificate's private key.",
      example: "/etc/fleetingd/incus.key",
      defaultText: "none",
    }),
    server_certificate: key(absolutePath.optional(), {
      meaning:
        "A PEM file with the server's own certificate, `server.crt` in its directory. Only that one is accepted then.",
      example: "/etc/fleetingd/incus-server.crt",
      defaultText: "the server's must be signed by an authority that Node.js trusts",
    }),
    project: key(matching(NAME, ENTITY).prefault("default"), {
      meaning: "The project that instances are made in.",
      example: "ci",
    }),
    target: key(matching(/^@?[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/, `${ENTITY}, or @ and a group's`).optional(), {
      meaning: "The cluster member that instances are made on, or `@` and the name of a cluster group.",
      example: "@ci",
      defaultText: "Incus chooses",
    }),
    profiles: key(z.array(matching(NAME, ENTITY)).max(64).default(["default"]), {
      meaning: "Profiles of each instance. They must give it a root disk and a network.",
      example: ["default", "ci"],
    }),
    instance_type: key(z.enum(["container", "virtual-machine"]).default("virtual-machine"), {
      meaning:
        "What instances are. A container shares its host's kernel, which jobs of people whom you don't trust must not.",
      example: "container",
    }),
    image: key(z.string().min(1).max(256), {
      meaning:
        "An image of the server, by alias or fingerprint, or `images:` and an alias of linuxcontainers.org. It needs an SSH server, " +
        "and cloud-init unless there is `ssh_key_path`.",
      example: "images:debian/12/cloud",
    }),
    size: key(instanceSize.prefault("c1-m2"), {
      meaning:
        "CPUs and memory in GiB as in `c2-m4`, or the name of an AWS type of the families t1 to t3, m3 to m5 and c4 to c5.",
      example: "c4-m8",
    }),
    disk_size: key(matching(SIZE, 'a size such as "20GiB"').optional(), {
      meaning: "Size of the root disk.",
      example: "20GiB",
      defaultText: "the profile's",
    }),
    storage_pool: key(matching(NAME, ENTITY).optional(), {
      meaning: "The storage pool of the root disk, if there is a `disk_size`.",
      example: "fast",
      defaultText: "the profile's",
    }),
    network_device: key(matching(NAME, ENTITY).optional(), {
      meaning: "The network interface, as the instance calls it, whose address the runner connects to.",
      example: "eth0",
      defaultText: "the first that has a global IPv4 address, or else an IPv6 address",
    }),
    name_template: key(
      matching(/^[a-z$](?:[a-z0-9-]|\$random)*$/i, "a name with $random in it").prefault("$random"),
      {
        meaning: "How instances are called; `$random` becomes the instance's id.",
        example: "ci-$random",
      },
    ),
    config: key(z.record(z.string(), z.coerce.string()).default({}), {
      kind: "table of texts",
      meaning: "More configuration keys of Incus for each instance.",
      example: { "security.nesting": "true" },
    }),
    ...remoteKeys,
  })
  .superRefine((table, context) => {
    const fail = (path: string, message: string): void =>
      void context.addIssue({ code: "custom", path: [path], message });
    if (!table.name_template.includes("$random")) {
      fail(
        "name_template",
        `expected a name with $random in it, but this is ${describeValue(table.name_template)}`,
      );
    }
    if (table.url?.startsWith("https:") === false)
      fail("url", "the server's HTTPS address begins with https://");
    if (table.url === undefined) return;
    for (const name of ["client_certificate", "client_key"] as const) {
      if (table[name] === undefined)
        fail(name, "missing; a server that is asked over HTTPS knows us by a certificate");
    }
  });

const FIELDS = {
  ...REMOTE_FIELDS,
  type: "type",
  url: "url",
  socket: "socketPath",
  client_certificate: "clientCertificate",
  client_key: "clientKey",
  server_certificate: "serverCertificate",
  project: "project",
  target: "target",
  profiles: "profiles",
  instance_type: "instanceType",
  image: "image",
  disk_size: "diskSize",
  storage_pool: "storagePool",
  network_device: "networkDevice",
  name_template: "nameTemplate",
  config: "config",
} as const;

export function toIncusConfig({ size, ...table }: z.output<typeof incusTable>): IncusConfig {
  return Object.freeze({ ...renameKeys(table, FIELDS), ...size });
}
