/** What `Images` and `CollectGarbage` answer. JSON, so no undefined and no dates. */
import * as z from "zod";

const imageSchema = z.object({
  kind: z.enum(["golden", "base", "snapshot"]),
  name: z.string(),
  directory: z.string().describe("where it lies: the pool's vm_disk_directory"),
  pools: z.array(z.string()).readonly().describe("whose new VMs, or next golden image, are made of it"),
  base: z
    .string()
    .nullable()
    .describe(
      "what it was made of: a golden image's base image, a snapshot's golden image; null if that was not noted, and for a base image",
    ),
  ageSeconds: z.number(),
  bytes: z.number().describe("what it takes on its disk"),
  vms: z
    .int()
    .describe(
      "how many VMs are made of it, those of a snapshot also of its golden image; a base image has none itself",
    ),
  current: z.boolean().describe("whether it is what a pool uses now"),
});

export const imageListSchema = z.object({ images: z.array(imageSchema).readonly() });

const gcDirectorySchema = z.object({
  directory: z.string(),
  skipped: z.string().nullable().describe("why nothing was looked for; null if it was"),
  removed: z
    .array(
      z.object({
        kind: z.enum(["golden", "base", "snapshot", "pointer", "leftover"]),
        path: z.string(),
        bytes: z.number(),
      }),
    )
    .readonly()
    .describe("what was removed, or would be"),
});

export const gcReportSchema = z.object({
  dryRun: z.boolean(),
  directories: z.array(gcDirectorySchema).readonly(),
});

export type ImageStatus = z.infer<typeof imageSchema>;
export type ImageList = z.infer<typeof imageListSchema>;
export type GcDirectory = z.infer<typeof gcDirectorySchema>;
export type GcReport = z.infer<typeof gcReportSchema>;
