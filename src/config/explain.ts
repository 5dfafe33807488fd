/** A schema's findings as sentences for people: what was wrong, and what to do. */
import { closest } from "fastest-levenshtein";
import type { z } from "zod";

export interface Finding {
  path: PropertyKey[];
  text: string;
}

type Issue = z.core.$ZodIssue;

const MAX_SHOWN = 60;
const EXPECTED: Readonly<Record<string, string>> = {
  string: "a string",
  // No key takes fractions, but the type of a value is looked at first.
  number: "a whole number",
  int: "a whole number",
  boolean: "true or false",
  array: "a list",
  object: "a table",
  // What is made a string of whatever it is.
  nonoptional: "a value",
};

/**
 * One finding for each thing that is wrong.
 * @param input What was checked.
 * @param knownKeys All keys that the table may have.
 */
export function explain(issues: readonly Issue[], input: unknown, knownKeys: readonly string[]): Finding[] {
  return issues.flatMap((issue): Finding[] => {
    const path = [...issue.path];
    // Every number has closer bounds than what a JavaScript number can hold; one finding on them is enough.
    if ((issue.code === "too_small" || issue.code === "too_big") && issue.origin === "int") return [];
    if (issue.code === "unrecognized_keys") {
      return issue.keys.map((key) => ({ path: [...path, key], text: unknownKey(key, knownKeys) }));
    }
    return [{ path, text: explainIssue(issue, valueAt(input, path)) }];
  });
}

/** A sentence on a key that there is not, with the nearest one that there is. */
export function unknownKey(key: string, known: readonly string[]): string {
  return `there is no such key; ${nearest(key, known)}`;
}

/** `did you mean "x"?`, or what else to do if there is nothing to mean. */
export function nearest(word: string, known: readonly string[]): string {
  return known.length === 0 ? "leave it out" : `did you mean ${JSON.stringify(closest(word, known))}?`;
}

/** A value as it is shown in a message: short, and never more than one line. */
export function describeValue(value: unknown): string {
  if (value === null) return "null";
  if (value instanceof Date) return "a date";
  if (Array.isArray(value)) return "a list";
  switch (typeof value) {
    case "string":
      return JSON.stringify(value.length > MAX_SHOWN ? `${value.slice(0, MAX_SHOWN)}…` : value);
    case "object":
      return "a table";
    case "undefined":
      return "missing";
    default:
      return String(value);
  }
}

function explainIssue(issue: Issue, value: unknown): string {
  switch (issue.code) {
    case "invalid_type":
      return wrongType(issue.expected, value);
    case "too_small":
      return `must be at least ${issue.minimum}, but this is ${describeSize(issue.origin, value)}`;
    case "too_big":
      return `must be at most ${issue.maximum}, but this is ${describeSize(issue.origin, value)}`;
    case "invalid_value":
      return wrongChoice(issue.values.map(String), value);
    case "custom":
      return issue.message;
    default:
      return `${issue.message}; this is ${describeValue(value)}`;
  }
}

function wrongType(expected: string, value: unknown): string {
  const wanted = EXPECTED[expected] ?? expected;
  if (value === undefined) return `missing; give it ${wanted}`;
  return `expected ${wanted}, but this is ${describeValue(value)}${typeAdvice(expected, value)}`;
}

function typeAdvice(expected: string, value: unknown): string {
  if (typeof value !== "string") {
    const isPlain = typeof value === "number" || typeof value === "boolean";
    return expected === "string" && isPlain ? `; write "${value}"` : "";
  }
  const isNumber = /^[+-]?\d+(\.\d+)?$/.test(value) && (expected === "number" || expected === "int");
  const isBoolean = /^(true|false)$/.test(value) && expected === "boolean";
  if (isNumber || isBoolean) return `, a string; write ${value} without quotes`;
  if (expected === "array") return `, a string; write [${describeValue(value)}]`;
  return ", a string";
}

function wrongChoice(choices: readonly string[], value: unknown): string {
  const list = choices.map((choice) => JSON.stringify(choice)).join(", ");
  const hint = typeof value === "string" && choices.length > 1 ? `; ${nearest(value, choices)}` : "";
  return `expected ${choices.length > 1 ? "one of " : ""}${list}, but this is ${describeValue(value)}${hint}`;
}

function describeSize(origin: string, value: unknown): string {
  if (origin === "array" && Array.isArray(value)) return `a list of ${value.length}`;
  return describeValue(value);
}

function valueAt(input: unknown, path: readonly PropertyKey[]): unknown {
  let value = input;
  for (const step of path) {
    if (typeof value !== "object" || value === null) return undefined;
    value = Object.getOwnPropertyDescriptor(value, step)?.value;
  }
  return value;
}
