/**
 * How machines are found again: each domain has a tag of ours in its metadata, and a UUID that follows from it. So a copy of a domain,
 * which has the tag as well, is not taken for ours. Volumes can have no tag: their names say whose they are.
 */
import { createHash } from "node:crypto";
import type { Owner } from "../remote/cloud.ts";

export interface Tag extends Owner {
  instance: string;
}

export const TAG_NAMESPACE = "urn:fleetingd:instance";

const ENTITIES: Readonly<Record<string, string>> = { amp: "&", lt: "<", gt: ">", quot: '"', apos: "'" };

/** The element in a domain's metadata. */
export function tagElement({ daemon, pool, instance }: Tag): string {
  const attributes = Object.entries({ daemon, pool, instance }).map(
    ([name, value]) => `${name}="${escapeXml(value)}"`,
  );
  return `<fleetingd:instance xmlns:fleetingd="${TAG_NAMESPACE}" ${attributes.join(" ")}/>`;
}

/** The tag in what libvirt prints of it; undefined if there is none. */
export function readTag(element: string): Tag | undefined {
  const attribute = (name: string): string | undefined => {
    const [, double, single] = new RegExp(`\\s${name}=(?:"([^"]*)"|'([^']*)')`).exec(element) ?? [];
    return unescapeXml(double ?? single);
  };
  const [daemon, pool, instance] = [attribute("daemon"), attribute("pool"), attribute("instance")];
  if (daemon === undefined || pool === undefined || instance === undefined) return undefined;
  return { daemon, pool, instance };
}

export function uuidOf({ daemon, pool, instance }: Tag): string {
  const hex = hash([daemon, pool, instance]);
  // Version 8: of our own making.
  const parts = [hex.slice(0, 8), hex.slice(8, 12), `8${hex.slice(13, 16)}`, `a${hex.slice(17, 20)}`];
  return [...parts, hex.slice(20, 32)].join("-");
}

/** Locally administered, and of this machine alone. */
export function macAddressOf(tag: Tag): string {
  const octets =
    hash([uuidOf(tag)])
      .slice(0, 10)
      .match(/../g) ?? [];
  return ["52", ...octets].join(":");
}

export interface VolumeNames {
  disk: string;
  seed: string;
}

export function volumesOf({ instance, ...owner }: Tag): VolumeNames {
  const stem = `${instance}.${ownerMark(owner)}`;
  return { disk: `${stem}.qcow2`, seed: `${stem}.iso` };
}

/** The instance whose volume has this name, if it is one of the owner's. */
export function instanceOfVolume(name: string, owner: Owner): string | undefined {
  const [, instance, mark] = /^(.+)\.([0-9a-f]{12})\.(?:qcow2|iso)$/.exec(name) ?? [];
  return mark === ownerMark(owner) ? instance : undefined;
}

function ownerMark({ daemon, pool }: Owner): string {
  return hash([daemon, pool]).slice(0, 12);
}

function hash(parts: readonly string[]): string {
  return createHash("sha256").update(JSON.stringify(parts)).digest("hex");
}

function escapeXml(text: string): string {
  const names = Object.entries(ENTITIES);
  return text.replace(
    /[&<>"']/g,
    (character) => `&${names.find(([, it]) => it === character)?.[0] ?? "amp"};`,
  );
}

function unescapeXml(text: string | undefined): string | undefined {
  return text?.replace(/&(\w+);/g, (whole, name: string) => ENTITIES[name] ?? whole);
}
