/** What `Events` answers, an object for each event, and what `fleetingd explain --json` makes of them. */
import * as z from "zod";
import { eventSchema } from "../events.ts";

export const loggedEventSchema = z.intersection(
  z.object({ time: z.iso.datetime().describe("when it happened, UTC") }),
  eventSchema,
);
export type LoggedEvent = z.infer<typeof loggedEventSchema>;

export const logEntrySchema = z.object({
  time: z.iso.datetime().describe("UTC"),
  level: z.enum(["debug", "info", "warn", "error"]),
  message: z.string(),
  fields: z.record(z.string(), z.union([z.string(), z.number(), z.boolean(), z.null()])),
});

export const timelineSchema = z.object({
  instance: z.string(),
  pool: z.string(),
  group: z.string().nullable().describe("the runner that claimed it"),
  state: z.enum(["creating", "ready", "ending", "failed", "gone"]),
  outcome: z.string().describe("one sentence: how it is, or why it failed"),
  steps: z.array(
    z.object({
      time: z.iso.datetime().describe("when it began, UTC"),
      seconds: z.number().nullable().describe("how long it took; null for what has no length, or goes on"),
      what: z.string(),
      isProblem: z.boolean(),
    }),
  ),
});
export type Timeline = z.infer<typeof timelineSchema>;
