/**
 * Adds up what scripts/test-report.mjs wrote, tells what failed and why tests were skipped, and prints the closing line.
 *
 *     node scripts/test-summary.mjs FOLDER ALLOWED-SKIPS FAILED-STEPS
 *
 * A failed step in which no test failed (types, lint, a crash) counts as one failure.
 */
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";

const [folder = ".", allowedSkips = "", failedSteps = "0"] = process.argv.slice(2);
const allowed = new RegExp(allowedSkips);
const total = { passed: 0, failed: 0, skipped: 0, refused: 0 };

for (const name of (await readdir(folder)).filter((entry) => entry.endsWith(".json"))) {
  const text = await readFile(join(folder, name), "utf8");
  // Empty: the run ended before its reporter did, so its step has failed.
  if (text === "") continue;
  const suite = JSON.parse(text);
  for (const key of ["passed", "failed", "skipped"]) total[key] += suite[key];
  for (const { test, error } of suite.failures) process.stdout.write(`failed: ${test}\n${error}\n`);
  for (const { test, reason } of suite.skips) {
    const refused = process.env.CI === "true" && !allowed.test(reason);
    if (refused) total.refused += 1;
    process.stdout.write(`${refused ? "skipped, which CI must not" : "skipped"}: ${test}: ${reason}\n`);
  }
}

if (total.failed === 0) total.failed = Number(failedSteps);
total.failed += total.refused;
total.skipped -= total.refused;
process.stdout.write(`${total.passed} passed, ${total.failed} failed, ${total.skipped} skipped\n`);
process.exitCode = total.failed > 0 ? 1 : 0;
