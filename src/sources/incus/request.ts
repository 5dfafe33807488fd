/** What Incus is asked for, as a pure function of configuration and instance. */
import { createHash } from "node:crypto";
import { userWithKey } from "../../cloudinit/user-data.ts";
import type { MachineRequest, Owner } from "../remote/cloud.ts";
import type { IncusConfig } from "./config.ts";

/** Keys of an instance's configuration that say whose it is. */
export const TAG = {
  daemon: "user.fleetingd.daemon",
  pool: "user.fleetingd.pool",
  instance: "user.fleetingd.instance",
} as const;

const PUBLIC_IMAGES = { remote: "images", server: "https://images.linuxcontainers.org" } as const;
const FINGERPRINT = /^[0-9a-f]{12,64}$/;

/** The body of `POST /1.0/instances`; started at once, and gone as soon as it is stopped. */
export function instanceRequest(
  config: IncusConfig,
  { id, owner, authorizedKey }: Pick<MachineRequest, "id" | "owner" | "authorizedKey">,
  rootDisk: Readonly<Record<string, string>> | undefined,
): Record<string, unknown> {
  const userData = authorizedKey === undefined ? undefined : userWithKey(config.username, authorizedKey);
  return {
    name: instanceName(config, id),
    type: config.instanceType,
    ephemeral: true,
    start: true,
    profiles: config.profiles,
    source: imageSource(config.image),
    config: {
      "limits.cpu": String(config.vcpus),
      "limits.memory": `${config.memoryMiB}MiB`,
      // Images' templates look for the one or the other.
      ...(userData === undefined ? {} : { "cloud-init.user-data": userData, "user.user-data": userData }),
      ...config.config,
      [TAG.daemon]: owner.daemon,
      [TAG.pool]: owner.pool,
      [TAG.instance]: id,
    },
    ...(rootDisk === undefined ? {} : { devices: { root: rootDisk } }),
  };
}

export function instanceName(config: Pick<IncusConfig, "nameTemplate">, id: string): string {
  return config.nameTemplate.replaceAll("$random", id);
}

/** A filter for the owner's instances, as the interface of Incus takes it. */
export function ownerFilter(owner: Owner, id?: string): string {
  const tags = [
    [TAG.daemon, owner.daemon],
    [TAG.pool, owner.pool],
    ...(id === undefined ? [] : [[TAG.instance, id]]),
  ];
  return tags.map(([key, value]) => `config.${key} eq ${value}`).join(" and ");
}

/** Of all that instances are made of: what only changes how they are asked for is left out. */
export function fingerprintOf(config: IncusConfig): string {
  const { image, instanceType, vcpus, memoryMiB, diskSize, storagePool, profiles, username } = config;
  const made = [
    image,
    instanceType,
    vcpus,
    memoryMiB,
    diskSize,
    storagePool,
    profiles,
    username,
    config.config,
  ];
  return createHash("sha256").update(JSON.stringify(made)).digest("hex").slice(0, 12);
}

/** What an instance is made of and the server has to have: what it is, the key that names it, and where it is found. */
export function neededOf({
  image,
  profiles,
  storagePool,
}: IncusConfig): readonly (readonly [string, string, string])[] {
  const source = imageSource(image);
  const imagePath =
    source["fingerprint"] === undefined
      ? `/1.0/images/aliases/${encodeURIComponent(image)}`
      : `/1.0/images/${image}`;
  return [
    // One of another server is fetched when it is needed.
    ...(source["server"] === undefined ? [[`image ${image}`, "image", imagePath] as const] : []),
    ...profiles.map(
      (name) => [`profile ${name}`, "profiles", `/1.0/profiles/${encodeURIComponent(name)}`] as const,
    ),
    ...(storagePool === undefined
      ? []
      : [
          [
            `storage pool ${storagePool}`,
            "storage_pool",
            `/1.0/storage-pools/${encodeURIComponent(storagePool)}`,
          ] as const,
        ]),
  ];
}

function imageSource(image: string): Record<string, string> {
  const [remote, ...alias] = image.split(":");
  if (remote === PUBLIC_IMAGES.remote && alias.length > 0) {
    const { server } = PUBLIC_IMAGES;
    return { type: "image", mode: "pull", protocol: "simplestreams", server, alias: alias.join(":") };
  }
  return FINGERPRINT.test(image) ? { type: "image", fingerprint: image } : { type: "image", alias: image };
}
