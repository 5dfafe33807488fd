/** From what a person writes in `server_spec` to the request that Nova gets. */
import { createHash } from "node:crypto";
import { addCloudInitKey } from "../../cloudinit/user-data.ts";
import type { Owner } from "../remote/cloud.ts";
import type { ServerSpec } from "./config.ts";
import { addIgnitionKey } from "./ignition.ts";

export interface ServerWanted {
  id: string;
  owner: Owner;
  /** Undefined: the image has one. */
  authorizedKey: string | undefined;
  /** Whose key it is, where Ignition must know. */
  username: string;
  useIgnition: boolean;
  /** The id of the image of that name, where the spec names one. */
  imageId: string | undefined;
}

export function createRequest(spec: ServerSpec, wanted: ServerWanted): Readonly<Record<string, unknown>> {
  const { image_name, scheduler_hints, security_groups, user_data, name = wanted.id, ...rest } = spec;
  const { block_device_mapping_v2: disks } = spec;
  const userData = withKey(decoded(user_data ?? ""), wanted);
  const server = {
    ...rest,
    // As Go's formats: with zeros or spaces before it, if a width is given.
    name: name.replaceAll(/%(0?)(\d{0,2})d/g, (_, zero: string, width: string) =>
      String(numberOf(wanted.id)).padStart(Number(width), zero || " "),
    ),
    // Nova boots from none without a number, as the client that fleeting-plugin-openstack has always says one.
    ...(disks === undefined
      ? {}
      : { block_device_mapping_v2: disks.map((disk) => ({ boot_index: 0, ...disk })) }),
    tags: [...(spec.tags ?? []), ...tagsOf(wanted)],
    ...(wanted.imageId === undefined ? {} : { imageRef: wanted.imageId }),
    ...(userData === "" ? {} : { user_data: Buffer.from(userData).toString("base64") }),
    ...(security_groups === undefined
      ? {}
      : {
          security_groups: security_groups.map((group) =>
            typeof group === "string" ? { name: group } : group,
          ),
        }),
  };
  return { server, ...(scheduler_hints === undefined ? {} : { "os:scheduler_hints": scheduler_hints }) };
}

/** A tag for each thing that is known of it; Nova allows neither commas nor slashes in one. */
export function tagsOf({ id, owner }: { id: string; owner: Owner }): string[] {
  return [...ownerTags(owner), `${INSTANCE_TAG}${id}`];
}

export function ownerTags({ daemon, pool }: Owner): string[] {
  return [`fleetingd-daemon=${daemon}`, `fleetingd-pool=${pool}`];
}

/** The instance id that a server's tags tell; undefined if it is none of ours. */
export function instanceOf(tags: readonly string[]): string | undefined {
  return tags.find((tag) => tag.startsWith(INSTANCE_TAG))?.slice(INSTANCE_TAG.length);
}

/** The image that a server boots from, whether it is copied to a volume or not. */
export function imageOf(spec: ServerSpec): string | undefined {
  const volume = spec.block_device_mapping_v2?.find(({ source_type }) => source_type === "image");
  return spec.imageRef ?? (typeof volume?.["uuid"] === "string" ? volume["uuid"] : undefined);
}

const INSTANCE_TAG = "fleetingd-instance=";
const MOST_NUMBERS = 1_000_000_000;

/** A counter would begin anew with each daemon, and name a server as one that is still there. */
function numberOf(id: string): number {
  return Number(BigInt(`0x${createHash("sha256").update(id).digest("hex")}`) % BigInt(MOST_NUMBERS));
}

function withKey(userData: string, { authorizedKey, useIgnition, username }: ServerWanted): string {
  if (authorizedKey === undefined) return userData;
  return useIgnition
    ? addIgnitionKey(userData, username, authorizedKey)
    : addCloudInitKey(userData, authorizedKey);
}

function decoded(userData: string): string {
  const bytes = Buffer.from(userData, "base64");
  return bytes.length > 0 && bytes.toString("base64") === userData.replaceAll(/\s/g, "")
    ? bytes.toString()
    : userData;
}
