/** Tables whose keys depend on their key `type`. */
import type { z } from "zod";
import { describeValue, explain, type Finding, nearest } from "./explain.ts";

type Tables = Readonly<Record<string, z.ZodObject>>;

/**
 * Reads the table with the schema of its type.
 * @param options.what What the tables describe, for errors: `images`.
 * @param options.defaultType The type of a table that names none; undefined: it must name one.
 */
export function readTyped<T extends Tables>(
  tables: T,
  input: unknown,
  options: { what: string; defaultType?: keyof T & string },
): { table: z.output<T[keyof T]> } | { findings: Finding[] } {
  const types = Object.keys(tables);
  const given =
    typeof input === "object" && input !== null && "type" in input ? input.type : options.defaultType;
  const schema = typeof given === "string" && Object.hasOwn(tables, given) ? tables[given] : undefined;
  if (schema === undefined) {
    const list = types.map((type) => JSON.stringify(type)).join(", ");
    const hint = typeof given === "string" ? `; ${nearest(given, types)}` : "";
    const text = `expected one of ${list}, but this is ${describeValue(given)}${hint}`;
    return { findings: [{ path: ["type"], text }] };
  }
  const result = schema.safeParse(input);
  if (result.success) return { table: result.data as z.output<T[keyof T]> };
  const findings = explain(result.error.issues, input, Object.keys(schema.shape));
  return {
    findings: findings.map((finding) => ({
      ...finding,
      text: mentionType(finding, schema, tables, options.what),
    })),
  };
}

/** A key that another type has is no misspelling: the type is what is wrong. */
function mentionType(finding: Finding, schema: z.ZodObject, tables: Tables, what: string): string {
  const [name] = finding.path;
  if (finding.path.length !== 1 || typeof name !== "string" || name in schema.shape) return finding.text;
  const others = Object.keys(tables).filter((type) => name in (tables[type]?.shape ?? {}));
  if (others.length === 0) return finding.text;
  return `only ${what} of type ${others.map((type) => JSON.stringify(type)).join(" or ")} have this key; set type, or leave it out`;
}
