/** What `Status` answers: the daemon as a whole, for people and for monitoring. */
import * as z from "zod";

const seconds = (meaning: string) => z.number().describe(meaning);

const prebuildSchema = z.object({
  state: z
    .enum(["none", "running", "done", "failed"])
    .describe(
      "none: not yet begun. failed: the last one failed, and an older golden image stays in use if there is one",
    ),
  step: z.string().nullable().describe("what it does at the moment; null unless it runs"),
  error: z.string().nullable().describe("why the last one failed; null if it did not"),
  nextInSeconds: seconds("until the next one begins by itself; null for never").nullable(),
  timings: z
    .object({ baseSeconds: z.number(), prebuildSeconds: z.number() })
    .nullable()
    .describe("how long its parts took; null unless this daemon made the golden image"),
});

const cloneSchema = z.object({
  mode: z.enum(["auto", "snapshot", "boot"]).describe("as configured"),
  snapshot: z.string().nullable().describe("the snapshot that new instances go on from; null: they boot"),
  isBeingMade: z.boolean().describe("whether a snapshot is being made"),
  problem: z
    .string()
    .nullable()
    .describe("why instances boot although they might go on from a snapshot; null if they do, or are not to"),
  createSeconds: z
    .number()
    .nullable()
    .describe("how long making the snapshot took; null unless this daemon made it"),
});

const sourceSchema = z.object({
  name: z.string(),
  type: z.string().describe("local, incus, …"),
  state: z
    .enum(["ok", "full", "failing"])
    .describe("failing: nothing is made there at the moment. full: it works, and has no room"),
  problem: z.string().nullable().describe("why it is not ok; null if it is"),
  retryInSeconds: seconds("until a failing one is tried again; 0 otherwise"),
  instances: z.number().int().describe("what it has of this pool's, those that begin or end included"),
  maxInstances: z.number().int().nullable().describe("null: no bound of its own"),
  costPerHour: z.number(),
});

const stateSchema = z.enum(["creating", "ready", "deleting", "failed"]);

const poolSchema = z.object({
  name: z.string(),
  source: z
    .string()
    .describe(
      "what makes its instances: local, or the name of a cloud source; several in their order, with commas",
    ),
  sources: z.array(sourceSchema).describe("each of them in its order; empty for this host alone"),
  image: z
    .string()
    .nullable()
    .describe(
      "the name in the configuration of the image that it is made of; null for one that has no VMs on this host",
    ),
  goldenImage: z
    .string()
    .nullable()
    .describe("the golden image that new instances are made of; null before the first prebuild has ended"),
  goldenImageAgeSeconds: z.number().nullable(),
  prebuild: prebuildSchema,
  clones: cloneSchema,
  warm: z
    .object({ desired: z.number().int(), actual: z.number().int() })
    .describe("unclaimed instances: how many are to be ready, and how many are"),
  counts: z.record(stateSchema, z.number().int()).describe("all its instances by state"),
  maxInstances: z.number().int(),
  draining: z.boolean().describe("it makes no instances, because somebody drains it"),
  lastError: z
    .string()
    .nullable()
    .describe(
      "why creation is held back, or why there may be fewer instances than configured; null if neither",
    ),
  retryInSeconds: seconds(
    "for which no instance is made because the last ones failed; 0: creation is not held back",
  ),
  why: z
    .string()
    .nullable()
    .describe(
      "why fewer are warm than there should be, the end of a sentence; null if it is as it should be",
    ),
});

const instanceSchema = z.object({
  id: z.string(),
  pool: z.string(),
  group: z.string().nullable().describe("who claimed it; null for a warm one"),
  state: stateSchema,
  resting: z
    .boolean()
    .describe("whether it is paused until somebody claims it; a claimed one is then on its way to be awake"),
  address: z.string().nullable(),
  ageSeconds: z.number(),
  lastError: z.string().nullable(),
  failures: z.number().int().describe("how often the step that it waits for has failed"),
  retryInSeconds: seconds("until that step is tried again; 0 if nothing is waited for"),
  goldenImage: z.string().nullable(),
  snapshot: z.string().nullable().describe("the snapshot that it went on from; null if it has booted"),
  traffic: z
    .object({ receivedBytes: z.number().int(), sentBytes: z.number().int() })
    .nullable()
    .describe("what it has received and sent since its start; null where that is not counted, as at a cloud"),
  phases: z
    .array(z.object({ name: z.string(), seconds: z.number() }))
    .describe("how long each phase of its creation took; the last one may still be going on"),
});

export const statusSchema = z.object({
  version: z.string(),
  pid: z.number().int(),
  uptimeSeconds: z.number(),
  accelerator: z
    .string()
    .describe(
      "how guests are executed: kvm, or tcg where there is no working KVM; none where all pools are elsewhere",
    ),
  hypervisor: z.string().describe("the hypervisor and its version, or none"),
  confinement: z.string().describe("what the processes of VMs are held to, half a sentence"),
  connections: z
    .object({ entries: z.number().int(), limit: z.number().int(), isNearlyFull: z.boolean() })
    .nullable()
    .describe(
      "what the host's kernel follows for itself and all VMs, and how many it can; null where it follows none",
    ),
  pools: z.array(poolSchema),
  instances: z.array(instanceSchema),
});

/** What `fleetingd ps --json` prints. */
export const instancesSchema = z.object({ instances: z.array(instanceSchema) });

/** What `fleetingd why --json` prints. */
export const whySchema = z.object({
  pools: z.array(z.object({ pool: z.string(), warm: poolSchema.shape.warm, why: poolSchema.shape.why })),
});

export type DaemonStatus = z.infer<typeof statusSchema>;
export type PoolSourceStatus = z.infer<typeof sourceSchema>;
export type CloneStatus = z.infer<typeof cloneSchema>;
export type PoolStatus = z.infer<typeof poolSchema>;
export type InstanceStatus = z.infer<typeof instanceSchema>;
