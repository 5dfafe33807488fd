/**
 * Whose a vApp is: its name and its description say so from the moment that it exists, which metadata could only do later.
 *
 * The name is `<prefix>-<owner>-<instance id>`, where `<owner>` follows from daemon and pool: one query finds an owner's vApps
 * whatever their prefix. The description says daemon and pool in full, and is looked at before anything is deleted by name alone.
 */
import { createHash } from "node:crypto";
import type { Owner } from "../remote/cloud.ts";

const MARK_LENGTH = 12;

export function vappName(prefix: string, owner: Owner, id: string): string {
  return `${prefix}-${markOf(owner)}-${id}`;
}

/** For a query: `*` stands for anything. */
export function namePattern(owner: Owner): string {
  return `*-${markOf(owner)}-*`;
}

/** The instance id that a vApp's name tells; undefined if it is none of the owner's. */
export function instanceOf(name: string, owner: Owner): string | undefined {
  const mark = `-${markOf(owner)}-`;
  const start = name.indexOf(mark);
  return start < 0 ? undefined : name.slice(start + mark.length) || undefined;
}

export function describe(text: string, owner: Owner, id: string): string {
  return `${text} ${tagsOf(owner, id)}`;
}

/** Whether a description is one of `describe`. */
export function saysOwner(description: string, owner: Owner, id: string): boolean {
  return description.endsWith(tagsOf(owner, id));
}

function tagsOf({ daemon, pool }: Owner, id: string): string {
  return `[fleetingd-daemon=${daemon} fleetingd-pool=${pool} fleetingd-instance=${id}]`;
}

function markOf({ daemon, pool }: Owner): string {
  return createHash("sha256").update(`${daemon}/${pool}`).digest("hex").slice(0, MARK_LENGTH);
}
