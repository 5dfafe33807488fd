/** `fleetingd gc`: the daemon removes images that nobody needs. */
import type { GcReport } from "../api/images.ts";
import { formatBytes, printable } from "../api/text.ts";
import { callUnary } from "../host/grpc.ts";
import { type CliCommand, EXIT, type ReadOptions } from "./context.ts";
import { askForJson } from "./json-answer.ts";

export interface GcOptions extends ReadOptions {
  /** Says what would be removed, and removes nothing. */
  dryRun: boolean;
}

/** Images have few files, but file systems may take long to free large ones. */
const TIMEOUT_MS = 10 * 60_000;

/** @returns `failed` if some directory could not be looked at: what can go there is not known */
export const gc: CliCommand<GcOptions> = async (options, context) => {
  const report = await askForJson<GcReport>(
    options,
    (client, timeoutMs) =>
      callUnary(client.collectGarbage.bind(client), { dryRun: options.dryRun }, timeoutMs),
    ["directories"],
    TIMEOUT_MS,
  );
  if (options.json === true) context.out(JSON.stringify(report, null, 2));
  else for (const line of renderReport(report)) context.out(printable(line));
  let exitCode: number = EXIT.ok;
  for (const { directory, skipped } of report.directories) {
    if (skipped === null) continue;
    context.err(printable(`fleetingd: nothing is removed from ${directory}: ${skipped}.`));
    exitCode = EXIT.failed;
  }
  return exitCode;
};

function renderReport({ dryRun, directories }: GcReport): string[] {
  const removed = directories.flatMap((one) => one.removed);
  const bytes = removed.reduce((sum, one) => sum + one.bytes, 0);
  const verb = dryRun ? "would remove" : "removed";
  return [
    ...removed.map((one) => `${verb} ${one.path} (${formatBytes(one.bytes)})`),
    removed.length === 0
      ? "Nothing to remove."
      : `${formatBytes(bytes)} ${dryRun ? "would be" : "are"} free.`,
  ];
}
