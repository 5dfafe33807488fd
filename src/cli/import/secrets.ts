/** Keeps what looks like a secret out of what is printed. */
import { withoutSecrets } from "../../host/redact.ts";

export interface Shown {
  /** Undefined if all of it is hidden. */
  value: unknown;
  /** Whether something of it is hidden. */
  isHidden: boolean;
}

/** The value of `key` as it may be shown: of a text without what is secret in it, of a table without what is a secret. */
export function hideSecrets(key: string, value: unknown): Shown {
  if (typeof value === "string") return hideInText(key, value);
  if (typeof value !== "object" || value === null) return { value, isHidden: false };
  const isList = Array.isArray(value);
  const parts = Object.entries(value).map(([name, one]) => ({
    name,
    ...hideSecrets(isList ? key : name, one),
  }));
  const isHidden = parts.some((part) => part.isHidden);
  const left = parts.filter((part) => part.value !== undefined);
  if (isList) return { value: left.map((part) => part.value), isHidden };
  return { value: Object.fromEntries(left.map((part) => [part.name, part.value])), isHidden };
}

function hideInText(key: string, text: string): Shown {
  const shown = withoutSecrets(text);
  if (shown !== text) return { value: shown, isHidden: true };
  // Where a secret is, is none.
  const isPath = /_(file|path)$/.test(key);
  const isHidden = !isPath && withoutSecrets(`${key}=${text}`) !== `${key}=${text}`;
  return { value: isHidden ? undefined : text, isHidden };
}
