/** All that is wrong with a configuration, gathered to be told at once. */
import { FleetingdError } from "../errors.ts";

export interface Problem {
  /** Where it stands: `/etc/fleetingd/config.toml:12`, or what the whole text is called. */
  where: string;
  /** The key with all its tables, `pools.ci.image`; empty for a syntax error. */
  key: string;
  /** What was wrong and what to do. */
  text: string;
}

// A text that was never meant to be a configuration has a problem in every line; nobody reads a thousand.
const MAX_PROBLEMS = 100;
const MAX_KEY_LENGTH = 40;

/** An INVALID_CONFIG error that has one line for each problem. */
export function configError(problems: readonly Problem[]): FleetingdError {
  const lines = problems
    .slice(0, MAX_PROBLEMS)
    .map(({ where, key, text }) => [where, key, text].filter((part) => part !== "").join(": "));
  const more = problems.length - lines.length;
  return new FleetingdError(
    "INVALID_CONFIG",
    [...lines, ...(more > 0 ? [`… and ${more} more`] : [])].join("\n"),
  );
}

/** A path of keys and indices as people write it: `pools.ci.dns_servers[0]`. */
export function formatKey(path: readonly PropertyKey[]): string {
  return path.reduce<string>((text, step) => {
    if (typeof step === "number") return `${text}[${step}]`;
    const name = String(step).slice(0, MAX_KEY_LENGTH);
    const shown = /^[\w-]+$/.test(name) ? name : JSON.stringify(name);
    return text === "" ? shown : `${text}.${shown}`;
  }, "");
}
