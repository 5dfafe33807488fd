/** Why Cloud Hypervisor refused a call, out of the shapes that its answers have. */
import * as z from "zod";
import type { HttpAnswer } from "../../host/http-unix.ts";

const SHOWN_CHARACTERS = 500;
const chainSchema = z.array(z.string()).min(1);

/**
 * The API answers with a JSON array, the outermost error first: what was asked for, then why it failed. The HTTP server in front
 * of it answers with an object that has a raw newline in it, which is no JSON; and some answers are empty.
 */
export function reasonsOf({ status, body }: HttpAnswer): string {
  const chain = parseChain(body);
  // "Error from API" and "The VM could not …" repeat what was called.
  const reasons = chain === undefined ? [] : chain.length > 2 ? chain.slice(2) : chain.slice(-1);
  const text =
    chain === undefined ? (/"error"\s*:\s*"([\s\S]*)"/.exec(body)?.[1] ?? body) : reasons.join(": ");
  const line = withoutBacktrace(text).replaceAll(/\s+/g, " ").trim();
  if (line === "") return `status ${status}, without a reason`;
  return line.length > SHOWN_CHARACTERS ? `${line.slice(0, SHOWN_CHARACTERS)}…` : line;
}

function parseChain(body: string): string[] | undefined {
  try {
    return chainSchema.safeParse(JSON.parse(body)).data;
  } catch {
    // Not JSON: the HTTP server's own words.
    return undefined;
  }
}

function withoutBacktrace(text: string): string {
  return text.replaceAll(/\n\nStack backtrace:\n(?:\s+\d+: .*\n?)*/g, "");
}
