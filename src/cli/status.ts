/** `fleetingd status` */
import type { DaemonStatus, PoolStatus } from "../api/status.ts";
import { formatAge, printable } from "../api/text.ts";
import { callUnary } from "../host/grpc.ts";
import { type CliCommand, EXIT, type GlobalOptions, type ReadOptions } from "./context.ts";
import { formatTable } from "./format.ts";
import { renderInstances } from "./instance-table.ts";
import { askForJson } from "./json-answer.ts";

const TIMEOUT_MS = 10_000;

export const status: CliCommand<ReadOptions> = async (options, context) => {
  const answer = await askForStatus(options);
  if (options.json === true) context.out(JSON.stringify(answer, null, 2));
  else for (const line of renderStatus(answer)) context.out(printable(line));
  return EXIT.ok;
};

/** @throws FleetingdError */
export function askForStatus(options: GlobalOptions): Promise<DaemonStatus> {
  return askForJson<DaemonStatus>(
    options,
    (client, timeoutMs) => callUnary(client.status.bind(client), {}, timeoutMs),
    ["pools", "instances"],
    TIMEOUT_MS,
  );
}

/** The status as lines of text. */
export function renderStatus(status: DaemonStatus): string[] {
  const { version, pid, uptimeSeconds, hypervisor, accelerator, confinement } = status;
  return [
    `fleetingd ${version}, process ${pid}, up ${formatAge(uptimeSeconds)}`,
    ...(accelerator === "none" ? [] : [`hypervisor ${hypervisor} (${accelerator})`]),
    `VMs run ${confinement}`,
    ...connectionsOf(status),
    "",
    ...(status.pools.length === 0 ? ["No pools."] : renderPools(status.pools)),
    "",
    ...renderInstances(status.instances),
  ];
}

/** Nothing from a daemon that does not tell. */
function connectionsOf({ connections }: Partial<DaemonStatus>): string[] {
  if (connections === null || connections === undefined) return [];
  const { entries, limit, isNearlyFull } = connections;
  const advice = isNearlyFull
    ? ": nearly full, and new ones may fail; raise net.netfilter.nf_conntrack_max, or lower max_connections of pools"
    : "";
  return [`${entries} of ${limit} connections are in use on this host${advice}`];
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
    "CLONES",
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
    clonesOf(pool),
    goldenImage(pool),
  ]);
  return [...formatTable(headings, rows), ...pools.flatMap(troubles)];
}

function clonesOf({ clones }: PoolStatus): string {
  if (clones.snapshot !== null) return "snapshot";
  return clones.isBeingMade ? "boot (snapshot being made)" : "boot";
}

function goldenImage({ goldenImage: name, goldenImageAgeSeconds: age, prebuild }: PoolStatus): string {
  const known = name === null ? "none" : `${name}${age === null ? "" : ` (${formatAge(age)} old)`}`;
  if (prebuild.state !== "running") return known;
  return `${name === null ? "" : `${known}, `}being made${prebuild.step === null ? "" : `: ${prebuild.step}`}`;
}

function troubles(pool: PoolStatus): string[] {
  const { name, prebuild, clones, lastError, retryInSeconds } = pool;
  const nextTry = retryInSeconds === 0 ? "" : ` (next try in ${formatAge(retryInSeconds)})`;
  return [
    ...(prebuild.state === "failed"
      ? [`${name}: the last prebuild failed: ${prebuild.error ?? "unknown"}${nextPrebuild(pool)}`]
      : []),
    ...(clones.problem === null ? [] : [`${name}: VMs boot, for there is no snapshot: ${clones.problem}`]),
    ...(lastError === null ? [] : [`${name}: ${lastError}${nextTry}`]),
    ...pool.sources.flatMap(({ name: source, state, problem, retryInSeconds }) =>
      problem === null || problem === lastError
        ? []
        : [
            `${name}: source ${source} is ${state}: ${problem}${state === "failing" ? ` (next try in ${retryInSeconds} s)` : ""}`,
          ],
    ),
  ];
}

function nextPrebuild({ goldenImage: name, prebuild: { nextInSeconds } }: PoolStatus): string {
  // Without an image every VM that is wanted tries again, and sooner.
  return name === null || nextInSeconds === null ? "" : ` (next try in ${formatAge(nextInSeconds)})`;
}
