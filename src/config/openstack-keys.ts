/** The keys of `[sources.<name>]` of type `openstack`. */
import * as z from "zod";
import type { OpenStackConfig, ServerSpec } from "../sources/openstack/config.ts";
import { key } from "./key.ts";
import { REMOTE_FIELDS, remoteKeys } from "./remote-keys.ts";
import { renameKeys } from "./rename.ts";
import { absolutePath, duration, matching } from "./values.ts";

const DAY_SECONDS = 86_400;
/** Tags at creation came with it, and by them servers are found again. */
const OLDEST_MICROVERSION = 52;
const MOST_TAGS = 46;
/** Beside `boot_time`, for the server to be built and for the login. */
const BUILD_AND_LOGIN_MS = 120_000;

const text = z.string().min(1);
const table = z.record(z.string(), z.unknown());
const tag = matching(/^[^,/]{1,60}$/, "a tag of 1 to 60 characters without , and /");

const serverSpec = z
  .looseObject({
    name: text.optional(),
    image_name: text.optional(),
    imageRef: text.optional(),
    flavorRef: z.coerce.string().min(1),
    security_groups: z.array(z.union([text, table])).optional(),
    user_data: z.string().optional(),
    scheduler_hints: table.optional(),
    tags: z.array(tag).max(MOST_TAGS).optional(),
    networks: z.union([z.array(table), z.enum(["auto", "none"])]).optional(),
    block_device_mapping_v2: z.array(table).optional(),
  })
  .transform((spec, context): ServerSpec => {
    for (const count of ["min_count", "max_count"].filter((name) => name in spec)) {
      const message = "each instance is one server; leave it out";
      context.addIssue({ code: "custom", path: [count], message });
    }
    const has = spec.image_name ?? spec.imageRef ?? spec.block_device_mapping_v2;
    if (has === undefined) {
      const message = "missing; what does it boot from? Or write imageRef, or block_device_mapping_v2";
      context.addIssue({ code: "custom", path: ["image_name"], message });
    }
    return spec;
  });

const microversion = matching(/^2\.\d{1,3}$/, 'a microversion of Nova such as "2.79"').refine(
  (version) => Number(version.slice(2)) >= OLDEST_MICROVERSION,
  `must be 2.${OLDEST_MICROVERSION} or newer, for servers are found again by the tags that they are made with`,
);

export const openstackTable = z.strictObject({
  type: key(z.literal("openstack"), { meaning: "A project of an OpenStack cloud.", example: "openstack" }),
  cloud: key(text.optional(), {
    meaning: "The name of the cloud in `clouds.yaml`. Its password may stand in `secure.yaml` beside that.",
    example: "runner",
    defaultText: "`OS_CLOUD`, or else the other `OS_*` variables of the daemon's environment",
  }),
  clouds_config: key(absolutePath.optional(), {
    meaning: "The path of `clouds.yaml`.",
    example: "/etc/fleetingd/clouds.yaml",
    defaultText:
      "`OS_CLIENT_CONFIG_FILE`, or `openstack/clouds.yaml` in `~/.config` or `/etc`, whichever there is first",
  }),
  auth_from_env: key(z.boolean().default(false), {
    meaning:
      "Whether the `OS_*` variables of the daemon's environment say how to log in, whatever `cloud` says.",
    example: true,
  }),
  nova_microversion: key(microversion.prefault("2.79"), {
    meaning: "The microversion of Nova's interface, which decides what `server_spec` may have.",
    example: "2.90",
  }),
  server_spec: key(serverSpec, {
    kind: "table",
    meaning:
      "What each server is made of: [Nova's request](https://docs.openstack.org/api-ref/compute/#create-server), passed through. " +
      "In `name` a `%d` becomes a number of the instance's own. `image_name` is looked up when a server is made, and replaces " +
      "`imageRef`. `security_groups` are names or ids, `user_data` is text or base64, `scheduler_hints` stand here as well.",
    example: {
      name: "ci-%d",
      image_name: "debian-12",
      flavorRef: "4e9d4fa4",
      networks: [{ uuid: "f05e7f64" }],
    },
  }),
  boot_time: key(duration(1, DAY_SECONDS).optional(), {
    kind: "duration",
    meaning:
      "How long the image's own set-up at its first boot may take: its end is then looked for in the console's log " +
      "(cloud-init's last line, with `use_ignition` the login prompt), and an instance without it is deleted.",
    example: "10m",
    defaultText: "the console is not looked at; a login is enough",
  }),
  use_ignition: key(z.boolean().default(false), {
    meaning:
      "Whether the image is set up by Ignition (Flatcar, Fedora CoreOS) and not by cloud-init. `user_data` is then an Ignition " +
      "configuration of version 3, to which each instance's own key is added.",
    example: true,
  }),
  address_network: key(text.optional(), {
    meaning: "The name of the network whose address the runner connects to.",
    example: "ci-net",
    defaultText:
      "the server's `accessIPv4`, else a floating address, else the first fixed one; IPv4 before IPv6",
  }),
  ...remoteKeys,
});

const FIELDS = {
  ...REMOTE_FIELDS,
  type: "type",
  cloud: "cloud",
  clouds_config: "cloudsConfig",
  auth_from_env: "authFromEnv",
  nova_microversion: "novaMicroversion",
  server_spec: "serverSpec",
  boot_time: "bootTimeMs",
  use_ignition: "useIgnition",
  address_network: "addressNetwork",
} as const;

export function toOpenStackConfig(table: z.output<typeof openstackTable>): OpenStackConfig {
  const config = renameKeys(table, FIELDS);
  const { bootTimeMs = 0, createTimeoutMs } = config;
  const atLeastMs = bootTimeMs === 0 ? 0 : bootTimeMs + BUILD_AND_LOGIN_MS;
  return Object.freeze({ ...config, createTimeoutMs: Math.max(createTimeoutMs, atLeastMs) });
}
