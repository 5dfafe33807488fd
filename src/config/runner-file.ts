/** GitLab Runner's own `config.toml`, as far as it is about machines: what is not there has the runner's default, or is undefined. */
import * as z from "zod";

const table = z.record(z.string(), z.unknown());
const words = z.array(z.string()).default([]);

const customSchema = z.looseObject({
  prepare_exec: z.string().default(""),
  prepare_args: words,
  run_exec: z.string().default(""),
  run_args: words,
  cleanup_exec: z.string().default(""),
  cleanup_args: words,
});

const autoscalerSchema = z.looseObject({
  plugin: z.string().optional(),
  capacity_per_instance: z.number().default(1),
  max_use_count: z.number().optional(),
  max_instances: z.number().default(0),
  plugin_config: table.default({}),
  connector_config: table.default({}),
  state_storage: z.looseObject({ enabled: z.boolean().default(false) }).default({ enabled: false }),
});

const runnerSchema = z.looseObject({
  name: z.string().optional(),
  executor: z.string().default(""),
  limit: z.number().default(0),
  /** It belongs into the autoscaler; an example of one plugin has it here. */
  plugin: z.string().optional(),
  autoscaler: autoscalerSchema.optional(),
  custom: customSchema.optional(),
});

export const runnerFileSchema = z.looseObject({
  concurrent: z.number().default(0),
  shutdown_timeout: z.number().optional(),
  runners: z.array(runnerSchema).default([]),
});

export type CustomExecutor = z.output<typeof customSchema>;
export type Autoscaler = z.output<typeof autoscalerSchema>;
export type Runner = z.output<typeof runnerSchema>;
export type RunnerFile = z.output<typeof runnerFileSchema>;
