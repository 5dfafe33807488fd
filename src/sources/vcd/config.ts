/** Where a Cloud Director is, and what its machines are made of. */
import type { RemoteConfig } from "../remote/config.ts";
import type { Protocol } from "../source.ts";

export interface VcdConfig extends RemoteConfig {
  readonly type: "vcd";
  /** Without a slash and without `/api` at its end. */
  readonly url: string;
  /** `System` is the provider's. */
  readonly org: string;
  /** The absolute path of a file with the API token, or else the token itself. */
  readonly tokenFile: string | undefined;
  readonly token: string | undefined;
  /** Absolute path of a PEM file; undefined: authorities that Node trusts. */
  readonly caCertificate: string | undefined;
  readonly insecure: boolean;
  readonly virtualDatacenter: string;
  readonly network: string;
  readonly ipAllocationMode: "POOL" | "DHCP";
  readonly catalog: string;
  readonly template: string;
  /** Of the size and place of machines what is undefined is the template's or the data center's. */
  readonly storageProfile: string | undefined;
  readonly cpuCount: number | undefined;
  readonly coresPerSocket: number | undefined;
  readonly memoryMiB: number | undefined;
  /** Of the first disk, which never shrinks. */
  readonly diskGiB: number | undefined;
  readonly vappNamePrefix: string;
  /** What the description of each vApp begins with. */
  readonly description: string;
  /** How the runner connects. */
  readonly protocol: Protocol;
  /** Undefined: the protocol's. */
  readonly port: number | undefined;
  /** The same of what the administrator's password is to be; undefined: the template's way stays, and over WinRM each has its own. */
  readonly adminPasswordFile: string | undefined;
  readonly adminPassword: string | undefined;
}
