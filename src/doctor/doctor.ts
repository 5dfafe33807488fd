/** Looks at everything, and mends what is safe to mend. */
import { messageOf } from "../errors.ts";
import { type Check, type Finding, fail, type Report, worst } from "./finding.ts";

export interface Found extends Finding {
  area: string;
}

/** Looks at all of it; a check that breaks is a finding, too. */
export async function examine(checks: readonly Check[], onArea: (area: string) => void): Promise<Found[]> {
  const found: Found[] = [];
  // One after the other: some start programs, and a host in trouble shall not get more of it.
  for (const { area, look } of checks) {
    onArea(area);
    try {
      found.push(...(await look()).map((finding) => ({ area, ...finding })));
    } catch (error) {
      found.push({ area, ...fail(`this could not be looked at: ${messageOf(error)}`, "Run this as root.") });
    }
  }
  return found;
}

/** Mends what can be; says what before each, and what could not be. @returns what was done */
export async function mend(found: readonly Found[], say: (text: string) => void): Promise<string[]> {
  const done: string[] = [];
  for (const { fix } of found) {
    if (fix === undefined) continue;
    say(fix.what);
    try {
      await fix.run();
      done.push(fix.what);
    } catch (error) {
      say(`this failed: ${messageOf(error)}`);
    }
  }
  return done;
}

export function reportOf(found: readonly Found[], fixed: readonly string[]): Report {
  return {
    verdict: worst(found.map(({ verdict }) => verdict)),
    findings: found.map(({ area, verdict, message, remedy, fix }) => ({
      area,
      verdict,
      message,
      remedy: remedy ?? null,
      fixable: fix !== undefined,
    })),
    fixed: [...fixed],
  };
}
