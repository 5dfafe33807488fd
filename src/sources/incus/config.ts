/** Where an Incus server is, and what its instances are made of. */
import type { RemoteConfig } from "../remote/config.ts";

export interface IncusConfig extends RemoteConfig {
  readonly type: "incus";
  /** `https://…` without a slash at its end; undefined: the local socket. */
  readonly url: string | undefined;
  /** The local socket. */
  readonly socketPath: string;
  /** Absolute paths of PEM files. */
  readonly clientCertificate: string | undefined;
  readonly clientKey: string | undefined;
  /** Of the server itself, which nobody need have signed. */
  readonly serverCertificate: string | undefined;
  readonly project: string;
  /** A cluster member, or `@group`; undefined: Incus chooses. */
  readonly target: string | undefined;
  readonly profiles: readonly string[];
  readonly instanceType: "container" | "virtual-machine";
  /** An alias or a fingerprint; `remote:alias` is fetched from an image server. */
  readonly image: string;
  readonly vcpus: number;
  readonly memoryMiB: number;
  /** Of the root disk, as Incus writes it; undefined: the profile's. */
  readonly diskSize: string | undefined;
  readonly storagePool: string | undefined;
  /** The device whose address counts; undefined: the first that has one. */
  readonly networkDevice: string | undefined;
  /** `$random` becomes the instance's id. */
  readonly nameTemplate: string;
  /** More configuration keys of Incus for each instance. */
  readonly config: Readonly<Record<string, string>>;
}
