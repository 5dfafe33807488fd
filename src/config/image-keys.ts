/** The keys of `[images.<name>]`: which there are depends on `type`. */
import * as z from "zod";
import type { Finding } from "./explain.ts";
import { key } from "./key.ts";
import { renameKeys } from "./rename.ts";
import { readTyped } from "./typed-table.ts";
import type { ImageConfig } from "./types.ts";
import {
  absolutePath,
  debianSuite,
  kernelArgument,
  mirrorUrl,
  packageName,
  packageSource,
  rootDevice,
  sha256,
  ubuntuSeries,
} from "./values.ts";

const auto = z.strictObject({
  type: key(z.literal("auto").default("auto"), {
    meaning: "`ubuntu-cloud` if its server answers, `debian-packages` otherwise.",
    example: "auto",
  }),
});

const ubuntuCloud = z.strictObject({
  type: key(z.literal("ubuntu-cloud"), {
    meaning: "Ubuntu's cloud images, verified by their signature.",
    example: "ubuntu-cloud",
  }),
  series: key(ubuntuSeries.prefault("lts"), {
    meaning: "The release by its code name, or `lts` for the newest one with long-term support.",
    example: "noble",
  }),
  stream: key(z.enum(["release", "daily"]).default("release"), {
    meaning: "`release`: the images that Ubuntu has released. `daily`: the newest build, tested less.",
    example: "daily",
  }),
  mirrors: key(z.array(mirrorUrl).min(1).max(16).optional(), {
    meaning:
      "Servers to fetch from, tried in this order. What they serve is verified, so any mirror will do.",
    example: ["https://mirror.example.org/ubuntu-cloud-images"],
    defaultText: "Ubuntu's own",
  }),
  keyring: key(absolutePath.optional(), {
    meaning:
      "A file with the public keys (OpenPGP, as `gpgv` reads them) that the checksums must be signed with.",
    example: "/etc/fleetingd/mirror.gpg",
    defaultText: "the distribution's own",
  }),
  ca_certificate: key(absolutePath.optional(), {
    meaning: "A PEM file with the certificate authorities that the mirrors' TLS certificates may be of.",
    example: "/etc/ssl/certs/company.pem",
    defaultText: "those that Node.js trusts",
  }),
});

const debianPackages = z.strictObject({
  type: key(z.literal("debian-packages"), {
    meaning: "Built on this host from the distribution's signed packages, with mmdebstrap.",
    example: "debian-packages",
  }),
  suite: key(debianSuite.optional(), {
    meaning: "The release by its code name.",
    example: "bookworm",
    defaultText: "the host's, if it runs Debian, otherwise `bookworm`",
  }),
  mirrors: key(z.array(packageSource).min(1).max(16).optional(), {
    meaning: "Where packages come from: URLs of mirrors, or whole lines as in apt's `sources.list`.",
    example: ["http://deb.debian.org/debian"],
    defaultText: "the host's own apt sources for the suite, otherwise Debian's",
  }),
  packages: key(z.array(packageName).max(1000).default([]), {
    meaning: "Packages to install besides those that every image has.",
    example: ["build-essential"],
  }),
});

const files = z.strictObject({
  type: key(z.literal("files"), {
    meaning: "Your own disk and kernel.",
    example: "files",
  }),
  disk: key(absolutePath, {
    meaning: "The disk image, raw or qcow2. It needs cloud-init, an SSH server and systemd.",
    example: "/srv/images/ci.qcow2",
  }),
  disk_sha256: key(sha256.optional(), {
    meaning: "The disk image's SHA-256 checksum.",
    example: "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    defaultText: "not checked",
  }),
  kernel: key(absolutePath, {
    meaning: "The kernel that VMs boot with (`vmlinuz`).",
    example: "/srv/images/vmlinuz",
  }),
  kernel_sha256: key(sha256.optional(), {
    meaning: "The kernel's SHA-256 checksum.",
    example: "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    defaultText: "not checked",
  }),
  initrd: key(absolutePath.optional(), {
    meaning: "The initial RAM disk for that kernel.",
    example: "/srv/images/initrd.img",
    defaultText: "none",
  }),
  initrd_sha256: key(sha256.optional(), {
    meaning: "The initial RAM disk's SHA-256 checksum.",
    example: "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    defaultText: "not checked",
  }),
  root_device: key(rootDevice.prefault("/dev/vda1"), {
    meaning: "What `root=` on the kernel's command line names: the partition with the root file system.",
    example: "LABEL=root",
  }),
  kernel_arguments: key(z.array(kernelArgument).max(64).default([]), {
    meaning: "More arguments for the kernel's command line.",
    example: ["net.ifnames=0"],
  }),
});

export const imageTables = {
  auto,
  "ubuntu-cloud": ubuntuCloud,
  "debian-packages": debianPackages,
  files,
} as const;

/** The image that a table means, or all that is wrong with it. */
export function readImage(input: unknown): { image: ImageConfig } | { findings: Finding[] } {
  const result = readTyped(imageTables, input, { what: "images", defaultType: "auto" });
  return "findings" in result ? result : { image: toImageConfig(result.table) };
}

function toImageConfig(table: z.output<(typeof imageTables)[keyof typeof imageTables]>): ImageConfig {
  switch (table.type) {
    case "auto":
      return renameKeys(table, { type: "type" });
    case "ubuntu-cloud":
      return renameKeys(table, UBUNTU_CLOUD_FIELDS);
    case "debian-packages":
      return renameKeys(table, DEBIAN_PACKAGES_FIELDS);
    case "files":
      return renameKeys(table, FILES_FIELDS);
  }
}

const UBUNTU_CLOUD_FIELDS = {
  type: "type",
  series: "series",
  stream: "stream",
  mirrors: "mirrors",
  keyring: "keyring",
  ca_certificate: "caCertificate",
} as const;
const DEBIAN_PACKAGES_FIELDS = {
  type: "type",
  suite: "suite",
  mirrors: "mirrors",
  packages: "packages",
} as const;
const FILES_FIELDS = {
  type: "type",
  disk: "disk",
  disk_sha256: "diskSha256",
  kernel: "kernel",
  kernel_sha256: "kernelSha256",
  initrd: "initrd",
  initrd_sha256: "initrdSha256",
  root_device: "rootDevice",
  kernel_arguments: "kernelArguments",
} as const;
