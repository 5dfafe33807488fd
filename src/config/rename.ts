/** From keys as they are written to fields as they are called in code. */

import { isDeepStrictEqual } from "node:util";

type Renamed<Table, Names extends Partial<Record<keyof Table, PropertyKey>>> = {
  readonly [Key in keyof Names & keyof Table as Exclude<Names[Key], undefined>]: Table[Key];
};

/** The same values under other names, deeply frozen. */
export function renameKeys<
  Table extends Record<string, unknown>,
  const Names extends Partial<Record<keyof Table, PropertyKey>>,
>(table: Table, names: Names): Renamed<Table, Names> {
  const entries = Object.entries(names).map(([key, field]) => [field, deepFreeze(table[key])]);
  return Object.freeze(Object.fromEntries(entries)) as Renamed<Table, Names>;
}

/** Freezes plain data to its depth. */
export function deepFreeze<T>(value: T): T {
  if (typeof value === "object" && value !== null && !Object.isFrozen(value)) {
    Object.freeze(value);
    for (const child of Object.values(value)) deepFreeze(child);
  }
  return value;
}

/** The keys whose fields, as `names` calls them, differ. */
export function changedKeys<Fields extends object>(
  before: Fields,
  after: Fields,
  names: Readonly<Record<string, keyof Fields>>,
): string[] {
  return Object.entries(names).flatMap(([key, field]) =>
    isDeepStrictEqual(before[field], after[field]) ? [] : [key],
  );
}
