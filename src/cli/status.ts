/** `fleetingd status` */
import type { DaemonStatus, InstanceStatus, PoolStatus, PrebuildStatus } from "../api/status.ts";
import { FleetingdError } from "../errors.ts";
import type { DaemonClient } from "../gen/fleetingd.ts";
import { callUnary } from "../host/grpc.ts";
import { type CliCommand, EXIT, type ReadOptions } from "./context.ts";
import { callError, withDaemon } from "./daemon-client.ts";
import { formatAge, formatTable, printable } from "./format.ts";

const TIMEOUT_MS = 10_000;

export const status: CliCommand<ReadOptions> = async (options, context) => {
  const answer = parseStatus(await withDaemon(options, askStatus));
  if (options.json === true) context.out(JSON.stringify(answer, null, 2));
  else for (const line of renderStatus(answer)) context.out(printable(line));
  return EXIT.ok;
};

async function askStatus(client: DaemonClient): Promise<string> {
  try {
    return (await callUnary(client.status.bind(client), {}, TIMEOUT_MS)).json;
  } catch (error) {
    throw callError(error, TIMEOUT_MS);
  }
}

function parseStatus(json: string): DaemonStatus {
  try {
    const answer: unknown = JSON.parse(json);
    if (isStatus(answer)) return answer;
  } catch (error) {
    throw notUnderstood(error);
  }
  throw notUnderstood(undefined);
}

function isStatus(answer: unknown): answer is DaemonStatus {
  if (typeof answer !== "object" || answer === null) return false;
  return (
    "pools" in answer &&
    Array.isArray(answer.pools) &&
    "instances" in answer &&
    Array.isArray(answer.instances)
  );
}

function notUnderstood(cause: unknown): FleetingdError {
  return new FleetingdError("INTERNAL", "the daemon's answer cannot be understood.", {
    hint: "Are the daemon and this program of the same version? Restart the daemon after an update.",
    cause,
  });
}

/** The status as lines of text. */
export function renderStatus(status: DaemonStatus): string[] {
  const { version, pid, uptimeSeconds, hypervisor, accelerator } = status;
  return [
    `fleetingd ${version}, process ${pid}, up ${formatAge(uptimeSeconds)}`,
    `hypervisor ${hypervisor} (${accelerator})`,
    "",
    ...(status.pools.length === 0 ? ["No pools."] : renderPools(status.pools)),
    "",
    ...(status.instances.length === 0 ? ["No instances."] : renderInstances(status.instances)),
  ];
}

function renderPools(pools: readonly PoolStatus[]): string[] {
  const headings = [
    "POOL",
    "SOURCE",
    "WARM",
    "READY",
    "CREATING",
    "DELETING",
    "FAILED",
    "MAX",
    "GOLDEN IMAGE",
  ];
  const rows = pools.map((pool) => [
    pool.name,
    pool.source,
    `${pool.warm.actual}/${pool.warm.desired}`,
    ...[
      pool.counts.ready,
      pool.counts.creating,
      pool.counts.deleting,
      pool.counts.failed,
      pool.maxInstances,
    ].map(String),
    goldenImage(pool),
  ]);
  return [...formatTable(headings, rows), ...pools.flatMap(troubles)];
}

function goldenImage({ goldenImage: name, goldenImageAgeSeconds: age, prebuild }: PoolStatus): string {
  const known = name === null ? "none" : `${name}${age === null ? "" : ` (${formatAge(age)} old)`}`;
  if (prebuild.state !== "running") return known;
  return `${name === null ? "" : `${known}, `}being made${prebuild.step === null ? "" : `: ${prebuild.step}`}`;
}

function troubles({ name, prebuild, lastError }: PoolStatus): string[] {
  return [
    ...(prebuild.state === "failed"
      ? [`${name}: the last prebuild failed: ${prebuild.error ?? "unknown"}${nextPrebuild(prebuild)}`]
      : []),
    ...(lastError === null ? [] : [`${name}: ${lastError}`]),
  ];
}

function nextPrebuild({ nextInSeconds }: PrebuildStatus): string {
  return nextInSeconds === null ? "" : ` (next try in ${formatAge(nextInSeconds)})`;
}

function retry({ failures, retryInSeconds }: InstanceStatus): string {
  return failures === 0 ? "" : ` (${failures} failed, next try in ${retryInSeconds} s)`;
}

function renderInstances(instances: readonly InstanceStatus[]): string[] {
  const headings = ["INSTANCE", "POOL", "STATE", "AGE", "ADDRESS", "GROUP", "ERROR"];
  const rows = instances.map((instance) => [
    instance.id,
    instance.pool,
    instance.state,
    formatAge(instance.ageSeconds),
    instance.address ?? "-",
    instance.group ?? "-",
    printable(instance.lastError ?? "") + retry(instance),
  ]);
  return formatTable(headings, rows);
}
