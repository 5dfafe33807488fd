/** Where a base image comes from, as the operator has said it: complete, with every default filled in but the undefined ones. */

export type ImageSource = AutoSource | UbuntuCloudSource | DebianPackagesSource | FilesSource;

/** `ubuntu-cloud` if its server answers, `debian-packages` otherwise, both with their defaults. */
export interface AutoSource {
  readonly type: "auto";
}

export interface UbuntuCloudSource {
  readonly type: "ubuntu-cloud";
  /** A code name such as `noble`, or `lts` for the newest release with long-term support. */
  readonly series: string;
  /** `release`: released images, updated every few weeks; `daily`: the newest build. */
  readonly stream: "release" | "daily";
  /** Base URLs of servers with the tree of cloud-images.ubuntu.com, in order of preference; undefined: that server. */
  readonly mirrors: readonly string[] | undefined;
  /** Absolute path of the OpenPGP keyring that must have signed the checksums; undefined: the distribution's. */
  readonly keyring: string | undefined;
  /** Absolute path of a PEM file with the authorities that servers' certificates may be of; undefined: those that Node trusts. */
  readonly caCertificate: string | undefined;
}

export interface DebianPackagesSource {
  readonly type: "debian-packages";
  /** A code name; undefined: the host's if it is Debian. */
  readonly suite: string | undefined;
  /** URIs or one-line apt entries; undefined: the host's own sources. */
  readonly mirrors: readonly string[] | undefined;
  readonly packages: readonly string[];
}

/** One's own image: absolute paths, and SHA-256 sums (64 hexadecimal digits) where they are to be checked. */
export interface FilesSource {
  readonly type: "files";
  /** Raw or qcow2, without a backing file. */
  readonly disk: string;
  readonly diskSha256: string | undefined;
  readonly kernel: string;
  readonly kernelSha256: string | undefined;
  readonly initrd: string | undefined;
  readonly initrdSha256: string | undefined;
  /** What `root=` names. */
  readonly rootDevice: string;
  readonly kernelArguments: readonly string[];
}
