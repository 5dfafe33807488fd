/** What commands that ask no daemon print with `--json`; docs/schemas is made of it. */
import * as z from "zod";

export const configCheckSchema = z.discriminatedUnion("valid", [
  z.object({
    valid: z.literal(true),
    files: z.array(z.string()).readonly().describe("what was read, in this order"),
    notes: z.array(z.string()).readonly().describe("what is allowed and odd, a sentence each"),
    config: z
      .record(z.string(), z.unknown())
      .describe("all values that hold, defaults included, by the names that they have in the source"),
  }),
  z.object({
    valid: z.literal(false),
    errors: z.array(z.string()).describe("every one, with file and line"),
  }),
]);

export const licensesSchema = z.array(
  z.object({
    name: z.string(),
    version: z.string(),
    license: z.string().describe("an SPDX expression"),
    text: z.string(),
  }),
);

export const versionSchema = z.object({ version: z.string(), node: z.string() });

export type ConfigCheck = z.input<typeof configCheckSchema>;
export type Versions = z.infer<typeof versionSchema>;
