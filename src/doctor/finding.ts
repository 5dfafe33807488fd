/** What the doctor finds. */
import * as z from "zod";
import { describeError, FleetingdError } from "../errors.ts";

export const findingSchema = z.object({
  area: z.string().describe("what was looked at, a word"),
  verdict: z.enum(["ok", "warn", "fail"]),
  message: z.string(),
  remedy: z.string().nullable().describe("what mends it: a command or a sentence"),
  fixable: z.boolean().describe("whether --fix does that"),
});

export const reportSchema = z.object({
  verdict: z.enum(["ok", "warn", "fail"]).describe("the worst"),
  findings: z.array(findingSchema),
  fixed: z.array(z.string()).describe("what --fix has done"),
});

export type Report = z.infer<typeof reportSchema>;
export type Verdict = Report["verdict"];

export interface Finding {
  verdict: Verdict;
  message: string;
  remedy?: string | undefined;
  /** Mends it, and does nothing else. It is safe: nothing that runs notices. */
  fix?: { what: string; run(): Promise<void> } | undefined;
}

/** One thing that is looked at. It changes nothing. */
export interface Check {
  area: string;
  look(): Promise<readonly Finding[]>;
}

export const ok = (message: string): Finding => ({ verdict: "ok", message });
export const warn = (message: string, remedy: string): Finding => ({ verdict: "warn", message, remedy });
export const fail = (message: string, remedy: string): Finding => ({ verdict: "fail", message, remedy });

/** An error as a finding: its own hint, or what else may mend it. */
export function failure(error: unknown, otherwise: string): Finding {
  if (!(error instanceof FleetingdError)) return fail(describeError(error), otherwise);
  return fail(error.message, error.hint ?? otherwise);
}

const WORSE: Readonly<Record<Verdict, number>> = { ok: 0, warn: 1, fail: 2 };

export function worst(verdicts: readonly Verdict[]): Verdict {
  return verdicts.reduce<Verdict>((a, b) => (WORSE[b] > WORSE[a] ? b : a), "ok");
}
