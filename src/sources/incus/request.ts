/** What Incus is asked for, as a pure function of configuration and instance. */
import { createHash } from "node:crypto";
import { userWithKey } from "../../cloudinit/user-data.ts";
import type { MachineRequest, Owner } from "../remote/cloud.ts";
import type { Needed } from "../remote/needed.ts";
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

/** What an instance is made of, as far as the server has to have it. */
export function neededOf({ image, profiles, storagePool }: IncusConfig): Needed[] {
  const { server, fingerprint }: Readonly<Record<string, string | undefined>> = imageSource(image);
  const imageFolder = fingerprint === undefined ? "/1.0/images/aliases" : "/1.0/images";
  const at = (kind: string, key: string, folder: string, id: string): Needed => ({
    ...{ what: `${kind} ${id}`, key, path: `${folder}/${encodeURIComponent(id)}` },
  });
  return [
    // One of another server is fetched when it is needed.
    ...(server === undefined ? [at("image", "image", imageFolder, image)] : []),
    ...profiles.map((name) => at("profile", "profiles", "/1.0/profiles", name)),
    ...(storagePool === undefined
      ? []
      : [at("storage pool", "storage_pool", "/1.0/storage-pools", storagePool)]),
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
