/** Plain data as TOML. */

/** `key = value`, on one line. */
export function assignment(name: string, value: unknown): string {
  return `${tomlKey(name)} = ${toToml(value)}`;
}

/** A key as it may stand before `=` or in `[table]`. */
export function tomlKey(name: string): string {
  return /^[\w-]+$/.test(name) ? name : basicString(name);
}

/** A value on one line; tables are inline ones. */
export function toToml(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(toToml).join(", ")}]`;
  if (typeof value === "object" && value !== null) {
    const pairs = Object.entries(value).map(([name, one]) => assignment(name, one));
    return pairs.length === 0 ? "{}" : `{ ${pairs.join(", ")} }`;
  }
  const isPlain = typeof value === "string" && /^[^'\p{Cc}]*$/u.test(value);
  if (isPlain && value.includes('"')) return `'${value}'`;
  return typeof value === "string" ? basicString(value) : String(value);
}

/** TOML's escapes are those of JSON, which leaves DEL as it is. */
function basicString(text: string): string {
  return JSON.stringify(text).replaceAll("\u007f", "\\u007f");
}

/** A text of several lines as such, where TOML can hold it unchanged; anything else on one line. */
export function toReadableToml(value: unknown): string {
  const isReadable =
    typeof value === "string" && value.includes("\n") && !value.includes("'''") && !value.endsWith("'");
  return isReadable && !/[^\P{Cc}\n\t]/u.test(value) ? `'''\n${value}'''` : toToml(value);
}
