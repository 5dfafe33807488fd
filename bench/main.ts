/**
 * `npm run bench`: measures the product with real VMs and prints a table.
 *
 * It starts itself again in namespaces of its own: whatever happens there, the kernel takes processes, networks and rules
 * with it, and the outer process removes the files.
 */
import { mkdtemp, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import type { Readable } from "node:stream";
import { fileURLToPath } from "node:url";
import { describeError, FleetingdError } from "../src/errors.ts";
import { exitOf, startChild } from "../src/host/child.ts";
import { listDirectory, removeTree } from "../src/host/files.ts";
import { withLock } from "../src/host/lock.ts";
import { UNFINISHED } from "../src/images/publish.ts";
import { ROOT } from "../test/helpers/daemon.ts";
import { assertNothingLeaked, snapshotHost } from "../test/helpers/leaks.ts";
import { inTestNamespace } from "../test/helpers/namespace.ts";
import { boot } from "./boot.ts";
import { clone } from "./clone.ts";
import { cycles } from "./cycle.ts";
import { daemon } from "./daemon.ts";
import { golden } from "./golden.ts";
import { BENCH_IMAGES, openBenchImages } from "./images.ts";
import { manyVms } from "./many.ts";
import type { Measurement } from "./measurement.ts";
import { type BenchOptions, parseOptions } from "./options.ts";
import { page } from "./page.ts";
import { plugin } from "./plugin.ts";
import { reportJson, reportTable } from "./report.ts";
import { rules } from "./rules.ts";
import { runMeasurements } from "./run.ts";
import { snapshot } from "./snapshot.ts";
import { sources } from "./sources.ts";
import { trafficThroughRules } from "./traffic.ts";

/** In the order in which they run: of those with VMs a golden image first, for all others start from it. */
const GROUPS: readonly (readonly Measurement[])[] = [
  rules,
  trafficThroughRules,
  cycles,
  manyVms,
  page,
  sources,
  golden,
  clone,
  plugin,
  daemon,
  boot,
  snapshot,
];

const EXIT = { ok: 0, failed: 1, usage: 2 } as const;
const SIGNALS = ["SIGINT", "SIGTERM", "SIGHUP"] as const;
const LOCK_TIMEOUT_MS = 60 * 60_000;
const PREFIX = "bench: ";
/** Of what programs have said, when a measurement failed. */
const SHOWN_LINES = 30;

const argv = process.argv.slice(2);
const measurements = GROUPS.flat();
const metrics = measurements.flatMap((measurement) => measurement.metrics);
process.exitCode = await main();

async function main(): Promise<number> {
  try {
    const options = parseOptions(
      argv,
      metrics.map(({ name }) => name),
    );
    if (typeof options === "string") {
      process.stdout.write(options);
      return EXIT.ok;
    }
    return inTestNamespace() ? await measure(options) : await runInNamespace();
  } catch (error) {
    tell(describeError(error));
    return error instanceof FleetingdError && error.code === "INVALID_ARGUMENT" ? EXIT.usage : EXIT.failed;
  }
}

async function measure(options: BenchOptions): Promise<number> {
  await openBenchImages();
  const directories = [join(BENCH_IMAGES, "clones")];
  const before = await snapshotHost({ directories });
  const { summaries, failures } = await runMeasurements(measurements, options, tell);
  process.stdout.write(`${reportTable(metrics, summaries).join("\n")}\n`);
  if (options.jsonPath !== undefined) await writeFile(options.jsonPath, reportJson(summaries));
  for (const failure of failures) tell(failure);
  await assertNothingLeaked(before, { directories });
  return failures.length === 0 ? EXIT.ok : EXIT.failed;
}

async function runInNamespace(): Promise<number> {
  if (process.getuid?.() !== 0)
    throw new FleetingdError("PERMISSION", "VMs and their networks need root: run this with sudo");
  const onWait = (): void => tell("waiting until another benchmark of this checkout has ended");
  const lock = { timeoutMs: LOCK_TIMEOUT_MS, onWait };
  return withLock(join(BENCH_IMAGES, ".bench.lock"), lock, async () => {
    const scratch = await mkdtemp(join(tmpdir(), "fleetingd-bench-"));
    try {
      return await inside({ ...process.env, TMPDIR: scratch });
    } finally {
      await removeTree(scratch);
      await removeLeftOvers();
    }
  });
}

/** Runs this program in namespaces of its own; an interrupt ends all that is in them. */
async function inside(env: NodeJS.ProcessEnv): Promise<number> {
  const program = [process.execPath, ...process.execArgv, fileURLToPath(import.meta.url)];
  const child = await startChild(join(ROOT, "scripts", "in-namespace"), [...program, ...argv], {
    stdio: ["ignore", "inherit", "pipe"],
    // A session of its own: an interrupt from the terminal reaches only us.
    detached: true,
    env,
  });
  const interrupt = (): void => void child.kill("SIGKILL");
  for (const signal of SIGNALS) process.once(signal, interrupt);
  const others = child.stderr === null ? [] : await passOwnLines(child.stderr);
  const exitCode = (await exitOf(child)) ?? EXIT.failed;
  if (exitCode !== EXIT.ok) for (const line of others.slice(-SHOWN_LINES)) process.stderr.write(`${line}\n`);
  return exitCode;
}

/** Shows our own lines at once; answers the others, those of the plugins for example, when all have ended. */
async function passOwnLines(stream: Readable): Promise<string[]> {
  const others: string[] = [];
  for await (const line of createInterface({ input: stream })) {
    if (line.startsWith(PREFIX)) process.stderr.write(`${line}\n`);
    else others.push(line);
  }
  return others;
}

/** Of the disk directory only whole images stay. */
async function removeLeftOvers(): Promise<void> {
  const passing = /^(clones|original|\.images)/;
  for (const [directory, pattern] of [
    [BENCH_IMAGES, passing],
    [join(BENCH_IMAGES, "golden"), UNFINISHED],
  ] as const) {
    const names = (await listDirectory(directory)).filter((name) => pattern.test(name));
    for (const name of names) await removeTree(join(directory, name));
  }
}

function tell(line: string): void {
  process.stderr.write(`${PREFIX}${line.replaceAll("\n", `\n${PREFIX}`)}\n`);
}
