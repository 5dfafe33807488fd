/**
 * What happens in the daemon, as data: pools, sources and images tell of it and don't know who listens. Metrics count
 * events, `fleetingd events` and `explain` show them, and docs/schemas/event.json is made from this schema.
 *
 * Import it for its types only, but in what makes or checks JSON.
 */
import * as z from "zod";

const pool = z.string().describe("the pool's name");
const instance = z.string().describe("the instance's id");
const group = z.string().describe("the runner's group");
const seconds = z.number().describe("how long it took");
const reason = z.string();
const phases = z.array(z.object({ name: z.string(), seconds: z.number() }));

const ofInstance = { pool, instance };

function event<Kind extends string, Shape extends z.ZodRawShape>(kind: Kind, shape: Shape) {
  return z.object({ kind: z.literal(kind), ...shape });
}

export const eventSchema = z.discriminatedUnion("kind", [
  // The life of an instance.
  event("creating", { ...ofInstance, group: group.optional() }),
  event("phase", { ...ofInstance, phase: z.string().describe("what of its creation begins") }),
  event("ready", {
    ...ofInstance,
    seconds,
    phases,
    waitSeconds: z.number().optional().describe("how long a group that had claimed it waited"),
  }),
  event("failed", { ...ofInstance, seconds, phase: z.string(), error: z.string() }),
  event("fell-back", { ...ofInstance, to: z.string().describe("how it is made instead"), reason }),
  event("claimed", { ...ofInstance, group, from: z.enum(["warm", "resting", "creating", "new"]) }),
  event("rested", { ...ofInstance, seconds }),
  event("woken", {
    ...ofInstance,
    seconds,
    waitSeconds: z.number().optional().describe("how long a group that had claimed it waited"),
  }),
  event("connected", { ...ofInstance, group }),
  event("troubled", { ...ofInstance, reason }),
  event("ending", {
    ...ofInstance,
    cause: z.enum(["released", "retired", "lost", "cleared", "removed"]),
    reason: reason.optional(),
  }),
  event("deleted", { ...ofInstance, seconds }),
  event("retry", {
    ...ofInstance,
    state: z.string(),
    error: z.string(),
    attempt: z.number().int(),
    retryInSeconds: z.number(),
  }),
  event("adopted", {
    ...ofInstance,
    state: z.string(),
    alive: z.boolean(),
    group: group.optional(),
    /** Milliseconds since 1970, as in its record. */
    createdAt: z.number(),
    phases: z.array(z.object({ name: z.string(), at: z.number() })),
    readyAt: z.number().optional(),
    claimedAt: z.number().optional(),
  }),
  // Pools.
  event("claim", { pool, group, asked: z.number().int(), accepted: z.number().int(), seconds }),
  event("rejected", {
    pool,
    group,
    rejected: z.number().int(),
    limit: z.string().describe("which limit stands against more, a word"),
    reason,
  }),
  event("held-back", { pool, error: z.string(), retryInSeconds: z.number() }),
  event("resumed", { pool }),
  event("drain", { pool, held: z.boolean() }),
  event("source", {
    pool,
    source: z.string().describe("one of the pool's sources, which does otherwise than before"),
    state: z.enum(["ok", "full", "failing"]),
    problem: z.string().optional().describe("why it is not ok"),
    retryInSeconds: z.number().optional().describe("until one that fails is tried again"),
  }),
  // What somebody wants done.
  event("asked", {
    action: z.enum(["drain", "undo-drain", "prebuild"]),
    by: z
      .enum(["page", "socket"])
      .describe("the web page, or the daemon's socket, as the command line uses it"),
    pool: pool.optional().describe("the pool's name; left out: all"),
  }),
  // Images, plugins, leftovers.
  event("image-begun", { pool }),
  event("image-ready", {
    pool,
    goldenImage: z.string(),
    made: z.boolean().describe("whether it was made now, or found"),
    baseSeconds: z.number(),
    prebuildSeconds: z.number(),
  }),
  event("image-failed", { pool, error: z.string(), seconds }),
  event("images-removed", { count: z.number().int(), bytes: z.number(), seconds }),
  event("attached", { pool, group }),
  event("detached", { pool, group }),
  event("leftover-removed", { what: z.enum(["process", "tap", "folder"]), name: z.string() }),
]);

export type DaemonEvent = z.infer<typeof eventSchema>;

/** Whoever tells of events calls this; it never throws. */
export type EventSink = (event: DaemonEvent) => void;
