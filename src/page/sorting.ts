/** In which order VMs are listed, and which of them: pure. */
import { conditionOf } from "../api/text.ts";
import type { PageInstance } from "../web/messages.ts";

export type Column = "instance" | "pool" | "state" | "age" | "address" | "group" | "traffic" | "error";

export interface Order {
  column: Column;
  isReversed: boolean;
}

/** What may need somebody comes first. */
const STATES: readonly string[] = ["failed", "creating", "deleting", "ready"];
/** Behind every word. */
const LAST = "\uffff";

const KEYS: Readonly<Record<Column, (one: PageInstance) => string | number>> = {
  instance: ({ id }) => id,
  pool: ({ pool }) => pool,
  state: (one) => `${STATES.indexOf(one.state)}${conditionOf(one)}`,
  age: ({ createdAt }) => -createdAt,
  address: ({ address }) => addressKey(address),
  group: ({ group }) => group ?? LAST,
  traffic: ({ traffic }) => -((traffic?.receivedBytes ?? 0) + (traffic?.sentBytes ?? 0)),
  error: ({ lastError }) => lastError ?? LAST,
};

export function listed(instances: Iterable<PageInstance>, order: Order, filter: string): PageInstance[] {
  const words = filter.toLowerCase().split(/\s+/).filter(Boolean);
  const chosen = [...instances].filter((one) => {
    const text = textOf(one);
    return words.every((word) => text.includes(word));
  });
  const key = KEYS[order.column];
  const sign = order.isReversed ? -1 : 1;
  return chosen.sort((a, b) => sign * (compare(key(a), key(b)) || compare(a.id, b.id)));
}

function textOf(one: PageInstance): string {
  const { id, pool, group, address, lastError } = one;
  return [id, pool, group, address, lastError, conditionOf(one)].join(" ").toLowerCase();
}

/** So that .9 comes before .10. */
function addressKey(address: string | null): string {
  return address?.replaceAll(/\d+/g, (digits) => digits.padStart(3, "0")) ?? LAST;
}

function compare(a: string | number, b: string | number): number {
  return a < b ? -1 : Number(a > b);
}
