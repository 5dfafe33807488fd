/** What `fleetingd import-config` finds; docs/schemas/import-config.json is made of it. */
import * as z from "zod";

const note = z.object({
  key: z.string().describe("as it is called in the runner's configuration"),
  line: z.int().nullable().describe("where it stands there; null: it is not given"),
  fate: z.enum(["taken-over", "unneeded", "to-do"]),
  text: z.string().describe("what it is called now, why it says nothing here, or what is to be done"),
});

const runner = z.object({
  name: z.string().nullable(),
  line: z.int(),
  from: z.string().describe("the plugin or the executor"),
  pools: z.array(z.string()).describe("the pools that are made for it"),
  notes: z.array(note),
  runnerConfig: z.string().describe("what its entry in the runner's configuration has from now on, as TOML"),
});

const tables = z.record(z.string(), z.record(z.string(), z.unknown()));

export const importSchema = z.object({
  runners: z.array(runner),
  config: z.object({ sources: tables, pools: tables }).describe("for the daemon's configuration"),
});

export type Import = z.infer<typeof importSchema>;
export type ImportedRunner = z.infer<typeof runner>;
export type Note = z.infer<typeof note>;
