/**
 * A reporter for node:test that writes one JSON object with a suite's counts and the reasons of its skips, which
 * scripts/test adds up.
 */
export default async function* report(events) {
  const counts = { passed: 0, failed: 0, skipped: 0, skips: [] };
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
    else if (!failedByTests(data.details?.error)) counts.failed += 1;
  }
  yield `${JSON.stringify(counts)}\n`;
}

function failedByTests(error) {
  return error?.failureType === "subtestsFailed";
}
