/** Which OpenStack cloud, and what its servers are made of. */
import type { RemoteConfig } from "../remote/config.ts";

export interface OpenStackConfig extends RemoteConfig {
  readonly type: "openstack";
  /** The cloud's name in `clouds.yaml`; undefined: the environment says which. */
  readonly cloud: string | undefined;
  /** Absolute path of `clouds.yaml`; undefined: where OpenStack's own programs look for it. */
  readonly cloudsConfig: string | undefined;
  /** Whether the daemon's `OS_*` variables say how to log in. */
  readonly authFromEnv: boolean;
  /** `2.79`. */
  readonly novaMicroversion: string;
  readonly serverSpec: ServerSpec;
  /** How long the machine's own set-up may take, which is then waited for; undefined: a login is enough. */
  readonly bootTimeMs: number | undefined;
  /** Whether keys go to machines by Ignition and not by cloud-init. */
  readonly useIgnition: boolean;
  /** The network whose address counts; undefined: any. */
  readonly addressNetwork: string | undefined;
}

/** Nova's request to create a server as a person writes it down, with a few keys that Nova doesn't have. */
export interface ServerSpec {
  /** `%d` becomes a number of the instance's own. */
  readonly name?: string | undefined;
  /** Looked up when a server is made; instead of `imageRef`. */
  readonly image_name?: string | undefined;
  readonly imageRef?: string | undefined;
  /** Names or ids. */
  readonly security_groups?: readonly (string | Readonly<Record<string, unknown>>)[] | undefined;
  /** Text, or base64 of it. */
  readonly user_data?: string | undefined;
  readonly scheduler_hints?: Readonly<Record<string, unknown>> | undefined;
  readonly tags?: readonly string[] | undefined;
  readonly networks?: unknown;
  readonly block_device_mapping_v2?: readonly Readonly<Record<string, unknown>>[] | undefined;
  /** Everything else goes to Nova as it is. */
  readonly [key: string]: unknown;
}
