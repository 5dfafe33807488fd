/** The daemon as the page shows it at one moment, and what differs between two of them. */
import { hostname } from "node:os";
import type { ImageStatus } from "../api/images.ts";
import type { DaemonStatus } from "../api/status.ts";
import { harmless } from "../api/text.ts";
import type { PageInstance, PageParts, PictureChange } from "./messages.ts";

export interface Picture extends PageParts {
  at: number;
  instances: ReadonlyMap<string, PageInstance>;
}

const PARTS = ["daemon", "pools", "distributions", "images"] as const satisfies (keyof PageParts)[];
const MAX_TEXT_LENGTH = 1_000;

export interface PictureInput {
  status: DaemonStatus;
  distributions: PageParts["distributions"];
  images: ImageStatus[] | null;
}

/** @param before so that what was computed from an age stays what it was */
export function pictureOf(input: PictureInput, before: Picture | undefined, at: number): Picture {
  const { pools, instances, uptimeSeconds, ...daemon } = input.status;
  const startedAt = before?.daemon.startedAt ?? at - uptimeSeconds * 1_000;
  return {
    at,
    daemon: { ...daemon, host: hostname(), startedAt },
    pools,
    distributions: input.distributions,
    images: input.images,
    instances: new Map(
      instances.map(({ ageSeconds, ...instance }) => {
        const createdAt = before?.instances.get(instance.id)?.createdAt ?? at - ageSeconds * 1_000;
        return [instance.id, { ...instance, createdAt }];
      }),
    ),
  };
}

/** Without what has happened meanwhile. */
export function changeOf(before: Picture, after: Picture): Omit<PictureChange, "events" | "starts"> {
  const isSame = (a: unknown, b: unknown): boolean => a === b || JSON.stringify(a) === JSON.stringify(b);
  const changed = PARTS.filter((part) => !isSame(before[part], after[part]));
  return {
    kind: "change",
    at: after.at,
    ...Object.fromEntries(changed.map((part) => [part, after[part]])),
    instances: [...after.instances.values()].filter((one) => !isSame(before.instances.get(one.id), one)),
    gone: [...before.instances.keys()].filter((id) => !after.instances.has(id)),
  };
}

/**
 * As JSON in which every text is one line: errors go on with what a VM's console has said, which is for fewer people than
 * the page, and may hold what would steer a terminal.
 */
export function toPageJson(value: unknown): string {
  return JSON.stringify(value, (_key, part: unknown) => (typeof part === "string" ? firstLine(part) : part));
}

function firstLine(text: string): string {
  const [line = "", ...others] = harmless(text).split("\n");
  const short = line.slice(0, MAX_TEXT_LENGTH);
  return others.length > 0 || short.length < line.length ? `${short} …` : short;
}
