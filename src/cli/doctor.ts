/** `fleetingd doctor`: what is wrong with this host and the configuration, and what mends it. */

import { printable } from "../api/text.ts";
import { type LoadedConfig, loadConfig } from "../config/load.ts";
import { examine, mend, reportOf } from "../doctor/doctor.ts";
import { type Check, fail, ok, type Report, type Verdict } from "../doctor/finding.ts";
import { hostChecks } from "../doctor/host.ts";
import { networkChecks } from "../doctor/network.ts";
import { poolChecks } from "../doctor/pools.ts";
import { runnerChecks } from "../doctor/runner.ts";
import { serviceChecks } from "../doctor/services.ts";
import { sourceChecks } from "../doctor/sources.ts";
import { FleetingdError } from "../errors.ts";
import { type CliCommand, EXIT, type ReadOptions } from "./context.ts";
import { createProgress } from "./progress.ts";

export interface DoctorOptions extends ReadOptions {
  /** Mends what is safe to mend. */
  fix: boolean;
  /** GitLab Runner's configuration. */
  runnerConfig: string;
}

/** 0 if nothing is worse than ok, 1 for a warning, 2 for a failure. */
const EXIT_CODES: Readonly<Record<Verdict, number>> = { ok: EXIT.ok, warn: 1, fail: 2 };
const MARKS: Readonly<Record<Verdict, string>> = { ok: "ok  ", warn: "WARN", fail: "FAIL" };

export const doctor: CliCommand<DoctorOptions> = async (options, context) => {
  const checks = await checksOf(options);
  const progress = createProgress(context);
  let found = await examine(checks, (area) => progress.update(`looking at: ${area}`));
  progress.end();
  let fixed: string[] = [];
  if (options.fix) {
    fixed = await mend(found, (what) => context.err(`fleetingd: mending: ${what}`));
    if (fixed.length > 0) found = await examine(checks, () => undefined);
  }
  const report = reportOf(found, fixed);
  if (options.json === true) context.out(JSON.stringify(report, null, 2));
  else for (const line of renderReport(report)) context.out(printable(line));
  return EXIT_CODES[report.verdict];
};

/** With a configuration that is refused only the host itself can be looked at. */
async function checksOf(options: DoctorOptions): Promise<Check[]> {
  let loaded: LoadedConfig;
  try {
    loaded = await loadConfig(options.config);
  } catch (error) {
    if (!(error instanceof FleetingdError)) throw error;
    const findings = error.message
      .split("\n")
      .map((line) => fail(line, "Mend it; `fleetingd config check` shows the same."));
    return [{ area: "configuration", look: async () => findings }, ...hostChecks("auto")];
  }
  const { config, files } = loaded;
  const message =
    files.length === 0
      ? "there is no configuration file, so defaults hold"
      : `${files.join(" and ")} is valid`;
  return [
    { area: "configuration", look: async () => [ok(message)] },
    ...hostChecks(config.daemon.hypervisor),
    ...poolChecks(config),
    ...sourceChecks(config),
    ...networkChecks(config),
    ...serviceChecks(config),
    ...runnerChecks(config, options.socket ?? config.daemon.socketPath, options.runnerConfig),
  ];
}

function renderReport({ findings, verdict }: Report): string[] {
  const width = Math.max(...findings.map(({ area }) => area.length));
  const lines = findings.flatMap(({ area, verdict: mark, message, remedy, fixable }) => [
    `${MARKS[mark]}  ${area.padEnd(width)}  ${message}`,
    ...(remedy === null || mark === "ok"
      ? []
      : [`${" ".repeat(width + 8)}→ ${remedy}${fixable ? " (or --fix)" : ""}`]),
  ]);
  const sum =
    verdict === "ok"
      ? "All is well."
      : `Failures: ${count(findings, "fail")}. Warnings: ${count(findings, "warn")}.`;
  return [...lines, "", sum];
}

function count(findings: Report["findings"], wanted: Verdict): number {
  return findings.filter(({ verdict }) => verdict === wanted).length;
}
