/** From keys as they are written to fields as they are called in code. */

type Renamed<Table, Names extends Record<keyof Table, PropertyKey>> = {
  readonly [Key in keyof Names & keyof Table as Names[Key]]: Table[Key];
};

/** The same values under other names, deeply frozen. */
export function renameKeys<
  Table extends Record<string, unknown>,
  const Names extends Record<keyof Table, PropertyKey>,
>(table: Table, names: Names): Renamed<Table, Names> {
  const entries = Object.keys(names).map((key) => [names[key], deepFreeze(table[key])]);
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
