/** The keys of `[sources.<name>]` of type `libvirt`. */
import * as z from "zod";
import type { LibvirtConfig } from "../sources/libvirt/config.ts";
import { describeValue } from "./explain.ts";
import { key } from "./key.ts";
import { REMOTE_FIELDS, remoteKeys } from "./remote-keys.ts";
import { renameKeys } from "./rename.ts";
import { absolutePath, instanceSize, interfaceName, libvirtUri, matching } from "./values.ts";

const ENTITY = /^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/;
const NAME = "a name as libvirt has it";
const SIZE = /^\d{1,6}(KiB|MiB|GiB|TiB|kB|MB|GB|TB)$/;
const VOLUME = /^\/?[A-Za-z0-9][A-Za-z0-9._+@:/-]{0,254}$/;

export const libvirtTable = z
  .strictObject({
    type: key(z.literal("libvirt"), { meaning: "A libvirt daemon with QEMU.", example: "libvirt" }),
    uri: key(libvirtUri.prefault("qemu:///system"), {
      meaning: "The daemon, as `virsh --connect` takes it.",
      example: "qemu+ssh://ci@rack7.example.org/system",
    }),
    image: key(matching(VOLUME, "the name of a volume, or its path on the daemon's host"), {
      meaning:
        "The template: a volume of the storage pool by its name, or one of any pool by its path. It is never written to: each instance " +
        "has an overlay on it. It needs an SSH server, and cloud-init unless there is `ssh_key_path`.",
      example: "debian-12.qcow2",
    }),
    storage_pool: key(matching(ENTITY, NAME).prefault("default"), {
      meaning:
        "The storage pool of files (types `dir`, `fs`, `netfs`) that instances' disks and seeds are made in.",
      example: "ci",
    }),
    network: key(matching(ENTITY, NAME).prefault("default"), {
      meaning: "The network of libvirt that instances are in, if there is no `bridge`.",
      example: "ci",
    }),
    bridge: key(interfaceName.optional(), {
      meaning: "A bridge of the daemon's host that instances are in instead.",
      example: "br0",
      defaultText: "none: they are in `network`",
    }),
    isolated: key(z.boolean().default(true), {
      meaning:
        "Whether instances on the network or bridge can't reach each other. Set it to `false` where the runner itself is a VM there, and " +
        "with the URI of a session, which can't keep them apart.",
      example: false,
    }),
    size: key(instanceSize.prefault("c1-m2"), {
      meaning: "CPUs and memory in GiB as in `c2-m4`, or the name of an AWS type as with Incus.",
      example: "c4-m8",
    }),
    disk_size: key(matching(SIZE, 'a size such as "20GiB"').optional(), {
      meaning: "Size of the disk, if that is more than the image's.",
      example: "50GiB",
      defaultText: "the image's",
    }),
    domain_type: key(z.enum(["auto", "kvm", "qemu"]).default("auto"), {
      meaning:
        "Whether KVM runs domains or QEMU emulates them, which is slow; `auto`: KVM where the host has it.",
      example: "kvm",
    }),
    machine: key(matching(ENTITY, NAME).prefault("q35"), {
      meaning: "The machine type of QEMU.",
      example: "pc",
    }),
    domain_template: key(absolutePath.optional(), {
      meaning:
        "A Handlebars template of your own for the domain's XML. It must have `{{name}}`, `{{uuid}}` and, in `<metadata>`, `{{{tag}}}`.",
      example: "/etc/fleetingd/domain.xml.hbs",
      defaultText: "`templates/libvirt/domain.xml.hbs`",
    }),
    user_data: key(z.string().min(1).max(16_000).optional(), {
      meaning: "User data for cloud-init, besides the instance's own user and key.",
      example: "#cloud-config\npackages: [git]\n",
      defaultText: "none",
    }),
    address_from: key(z.enum(["auto", "lease", "agent", "arp"]).default("auto"), {
      meaning:
        "Who knows an instance's address: the DHCP server of libvirt's network, the guest agent in the instance, or the neighbour " +
        "table of the daemon's host. `auto` takes whichever answers first, in this order.",
      example: "agent",
    }),
    name_template: key(
      matching(/^[a-z$](?:[a-z0-9-]|\$random)*$/i, "a name with $random in it").prefault("$random"),
      {
        meaning: "How domains are called; `$random` becomes the instance's id.",
        example: "ci-$random",
      },
    ),
    ...remoteKeys,
  })
  .superRefine(({ name_template, uri, isolated }, context) => {
    const refuse = (key: string, message: string): void =>
      context.addIssue({ code: "custom", path: [key], message });
    if (!name_template.includes("$random")) {
      refuse(
        "name_template",
        `expected a name with $random in it, but this is ${describeValue(name_template)}`,
      );
    }
    if (isolated && new URL(uri).pathname === "/session") {
      refuse(
        "isolated",
        "a session can't keep its instances apart: write `isolated = false` if they may reach each other, or use /system",
      );
    }
  });

const FIELDS = {
  ...REMOTE_FIELDS,
  type: "type",
  uri: "uri",
  image: "image",
  storage_pool: "storagePool",
  network: "network",
  bridge: "bridge",
  isolated: "isolated",
  disk_size: "diskSize",
  domain_type: "domainType",
  machine: "machine",
  domain_template: "domainTemplate",
  user_data: "userData",
  address_from: "addressFrom",
  name_template: "nameTemplate",
} as const;

export function toLibvirtConfig({ size, ...table }: z.output<typeof libvirtTable>): LibvirtConfig {
  return Object.freeze({ ...renameKeys(table, FIELDS), ...size });
}
