/** What `top` shows, as lines that fit the terminal: pure. */
import type { DaemonStatus, InstanceStatus, PoolStatus } from "../api/status.ts";
import { conditionOf, formatAge, printable } from "../api/text.ts";
import { formatTable } from "./format.ts";

export interface TopView {
  sort: (typeof SORTS)[number]["name"];
  isReversed: boolean;
  /** How many instances are scrolled past. */
  offset: number;
}

export interface Size {
  columns: number;
  rows: number;
}

/** Sorts behind every name. */
const LAST = "\uffff";

/** By which key, in which order. */
export const SORTS = [
  {
    name: "state",
    key: "s",
    of: (one: InstanceStatus) => `${STATE_ORDER.indexOf(one.state)}${conditionOf(one)}`,
  },
  { name: "age", key: "a", of: (one: InstanceStatus) => String(1e12 - one.ageSeconds).padStart(20, "0") },
  { name: "pool", key: "p", of: (one: InstanceStatus) => one.pool },
  { name: "group", key: "g", of: (one: InstanceStatus) => one.group ?? LAST },
  { name: "instance", key: "i", of: (one: InstanceStatus) => one.id },
] as const;

/** What may need somebody comes first. */
const STATE_ORDER: readonly string[] = ["failed", "creating", "deleting", "ready"];
const WIDE_COLUMNS = 120;
const HELP = `q quit  r reverse  j/k scroll  sort: ${SORTS.map(({ name, key }) => `${key} ${name}`).join("  ")}`;

export function renderTop(status: DaemonStatus, view: TopView, { columns, rows }: Size): string[] {
  const { version, hypervisor, uptimeSeconds, pools } = status;
  const isWide = columns >= WIDE_COLUMNS;
  const head = [
    `fleetingd ${version}, up ${formatAge(uptimeSeconds)}${isWide ? `, ${hypervisor}` : ""}`,
    "",
    ...poolLines(pools, isWide),
    ...pools.flatMap(({ name, why }) => (why === null ? [] : [`${name}: ${why}`])),
    "",
  ];
  const [heading = "", ...instances] = instanceLines(sorted(status.instances, view), isWide);
  const room = Math.max(1, rows - head.length - 2);
  const offset = Math.min(view.offset, Math.max(0, instances.length - room));
  const shown = instances.slice(offset, offset + room);
  const rest = instances.length - shown.length;
  const foot = Number.isFinite(rows) ? [rest > 0 ? `${rest} more  ${HELP}` : HELP] : [];
  const body = [...head, heading, ...shown];
  const gap = Number.isFinite(rows) ? Math.max(0, rows - body.length - foot.length) : 0;
  return [...body, ...Array.from({ length: gap }, () => ""), ...foot]
    .slice(0, rows)
    .map((line) => fit(printable(line), columns));
}

function sorted(instances: readonly InstanceStatus[], { sort, isReversed }: TopView): InstanceStatus[] {
  const of = SORTS.find(({ name }) => name === sort)?.of ?? ((one: InstanceStatus) => one.id);
  const inOrder = [...instances].sort((a, b) => compare(of(a), of(b)) || compare(a.id, b.id));
  return isReversed ? inOrder.reverse() : inOrder;
}

function compare(a: string, b: string): number {
  return a < b ? -1 : Number(a > b);
}

function poolLines(pools: readonly PoolStatus[], isWide: boolean): string[] {
  const headings = ["POOL", "WARM", "IN USE", "CREATING", "DELETING", "FAILED", "MAX"];
  const rows = pools.map((pool) => [
    pool.name,
    `${pool.warm.actual}/${pool.warm.desired}`,
    String(pool.counts.ready - pool.warm.actual),
    String(pool.counts.creating),
    String(pool.counts.deleting),
    String(pool.counts.failed),
    String(pool.maxInstances),
    ...(isWide ? [`${pool.goldenImage ?? "none"}${imageAge(pool)}`] : []),
  ]);
  return formatTable(isWide ? [...headings, "GOLDEN IMAGE"] : headings, rows);
}

function imageAge({ goldenImageAgeSeconds: age }: PoolStatus): string {
  return age === null ? "" : ` (${formatAge(age)} old)`;
}

function instanceLines(instances: readonly InstanceStatus[], isWide: boolean): string[] {
  const headings = ["INSTANCE", "POOL", "STATE", "AGE", "GROUP"];
  const rows = instances.map((one) => [
    one.id,
    one.pool,
    conditionOf(one),
    formatAge(one.ageSeconds),
    one.group ?? "-",
    ...(isWide ? [one.address ?? "-", one.goldenImage ?? "-", one.lastError ?? ""] : []),
  ]);
  return formatTable(isWide ? [...headings, "ADDRESS", "IMAGE", "ERROR"] : headings, rows);
}

/** What does not fit is cut, and shows that it was. */
function fit(line: string, columns: number): string {
  return line.length <= columns ? line : `${line.slice(0, Math.max(0, columns - 1))}…`;
}
