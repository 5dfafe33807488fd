/** Values in YAML that every parser reads alike. */

/**
 * One value as YAML on one line: JSON, which YAML includes, with everything beyond printable ASCII escaped.
 * (JSON alone would not do: PyYAML refuses raw control characters, and reads an escaped surrogate pair as two characters.)
 */
export function yamlValue(value: unknown): string {
  return JSON.stringify(value).replace(/[^\x20-\x7e]/gu, escapeCharacter);
}

function escapeCharacter(character: string): string {
  const code = character.codePointAt(0) ?? 0;
  return code > 0xffff
    ? `\\U${code.toString(16).padStart(8, "0")}`
    : `\\u${code.toString(16).padStart(4, "0")}`;
}
