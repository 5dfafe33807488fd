/**
 * One instance as the pool sees it, and its record on disk.
 *
 * ```
 *             create succeeds             Decrease, rollover, lost
 *  creating ──────────────────▶ ready ──────────────────────────────▶ deleting ──▶ (record removed)
 *      │                                                                  ▲
 *      └──── create fails or takes too long ──▶ failed ── deleted, and the group has been told
 * ```
 *
 * While it is ready and idle it may rest; a claimed one that still rests is woken, and only then given out.
 *
 * `group` is set by a claim and never changes again: a claimed instance serves one group until it is gone.
 * An id is never used twice.
 */
import { randomInt } from "node:crypto";
import * as z from "zod";
import { type ConnectInfo, PROTOCOLS, type SourceData } from "../sources/source.ts";

export const RECORD_VERSION = 1;

const connectInfoSchema = z.object({
  os: z.string(),
  arch: z.string(),
  protocol: z.enum(PROTOCOLS),
  username: z.string(),
  password: z.string().optional(),
  privateKey: z.string(),
  address: z.string(),
  port: z.number().int(),
}) satisfies z.ZodType<ConnectInfo>;

/** What `record.json` holds. Times are milliseconds since 1970. */
export const recordSchema = z.object({
  version: z.literal(RECORD_VERSION),
  id: z.string().min(1),
  pool: z.string().min(1),
  state: z.enum(["creating", "ready", "deleting", "failed"]),
  /** The group that claimed it. */
  group: z.string().optional(),
  createdAt: z.number(),
  readyAt: z.number().optional(),
  claimedAt: z.number().optional(),
  /** It rests, or began or ceased to when this was written: it is woken before anybody logs in. */
  resting: z.literal(true).optional(),
  /** When deletion was asked for, or creation failed. */
  endedAt: z.number().optional(),
  lastError: z.string().optional(),
  /** Phases of creation and when each began. */
  phases: z.array(z.object({ name: z.string(), at: z.number() })),
  connectInfo: connectInfoSchema.optional(),
  /** The source's own. */
  data: z.record(z.string(), z.unknown()),
});

export type InstanceRecord = z.infer<typeof recordSchema>;
export type InstanceState = InstanceRecord["state"];

/** How long each phase of its creation took; the last one until `now`, unless the instance got ready. */
export function phaseSeconds(
  { phases, readyAt }: Pick<InstanceRecord, "phases" | "readyAt">,
  now: number,
): { name: string; seconds: number }[] {
  return phases.map(({ name, at }, index) => ({
    name,
    seconds: Math.max(0, (phases[index + 1]?.at ?? readyAt ?? now) - at) / 1_000,
  }));
}

/** The record of an instance that is about to be made. */
export function newRecord(pool: string, group: string | undefined, now: number): InstanceRecord {
  return {
    version: RECORD_VERSION,
    id: newInstanceId(),
    pool,
    state: "creating",
    ...(group === undefined ? {} : { group, claimedAt: now }),
    createdAt: now,
    phases: [],
    data: {} satisfies SourceData,
  };
}

// No vowels and no look-alikes: an id is also a host name, and people read it aloud.
const ID_ALPHABET = "bcdfghjkmnpqrstvwxz23456789";
const ID_LENGTH = 12;

function newInstanceId(): string {
  const letters = Array.from({ length: ID_LENGTH }, () => ID_ALPHABET.charAt(randomInt(ID_ALPHABET.length)));
  return `fl-${letters.join("")}`;
}
