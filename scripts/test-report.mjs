/**
 * A reporter for node:test that writes one JSON object with a suite's counts, what failed, and the reasons of its skips,
 * which scripts/test adds up.
 */
import { inspect } from "node:util";

const LONGEST_ERROR = 4_000;

export default async function* report(events) {
  const counts = { passed: 0, failed: 0, skipped: 0, skips: [], failures: [] };
  for await (const { type, data } of events) {
    if (type !== "test:pass" && type !== "test:fail") continue;
    // A describe() fails with its tests, or by a hook of its own, which no test shows.
    if (data.details?.type === "suite" && (type === "test:pass" || failedByTests(data.details.error)))
      continue;
    if (data.skip !== undefined || data.todo !== undefined) {
      counts.skipped += 1;
      const reason = [data.skip, data.todo].find((text) => typeof text === "string" && text !== "");
      counts.skips.push({ test: data.name, reason: reason ?? "no reason was given" });
    } else if (type === "test:pass") counts.passed += 1;
    else if (!failedByTests(data.details?.error)) {
      counts.failed += 1;
      const { file, line, name } = data;
      const error = inspect(data.details?.error?.cause ?? data.details?.error).slice(0, LONGEST_ERROR);
      counts.failures.push({ test: `${name} (${file}:${line})`, error });
    }
  }
  yield `${JSON.stringify(counts)}\n`;
}

function failedByTests(error) {
  return error?.failureType === "subtestsFailed";
}
