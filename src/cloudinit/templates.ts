/** The files under templates/ that go into a golden image, read once and handed to the pure renderers. */
import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import { packageFile } from "../host/package-root.ts";

/** By their names under templates/guest/. */
const GUEST_FILES = [
  "cloud-init",
  "fleetingd-early.target",
  "fleetingd-full.service",
  "fleetingd-full.timer",
  "fleetingd-identity.service",
  "fleetingd-template.service",
  "identity",
  "prebuild-commands",
  "prebuild-finish",
  "prebuild-finish.service",
  "ready",
  "ssh.service.conf",
  "sshd.conf",
  "template",
] as const;
export type GuestFile = (typeof GUEST_FILES)[number];

export interface Templates {
  /** The Handlebars source of the prebuild's user-data. */
  userDataPrebuild: string;
  guest: Readonly<Record<GuestFile, string>>;
  /** A hash of all of them and of the initrd's script: a part of every golden image's name. */
  version: string;
}

export async function loadTemplates(): Promise<Templates> {
  const read = async (...parts: string[]): Promise<string> =>
    readFile(await packageFile("templates", ...parts), "utf8");
  const userDataPrebuild = await read("user-data-prebuild.hbs");
  const entries = await Promise.all(
    GUEST_FILES.map(async (name) => [name, await read("guest", name)] as const),
  );
  const content = JSON.stringify([userDataPrebuild, entries, await read("initrd", "init")]);
  return {
    userDataPrebuild,
    guest: Object.fromEntries(entries) as Record<GuestFile, string>,
    version: createHash("sha256").update(content).digest("hex").slice(0, 16),
  };
}
