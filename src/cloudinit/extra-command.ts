/** The operator's `vm_prebuild_cloudinit_extra_cmds`. */
import { isScalar, parseDocument } from "yaml";

/**
 * The shell command that an entry means. Earlier configurations were pasted into YAML, so an entry that needed quoting there is
 * itself one double-quoted YAML string: such an entry, and only such, is unwrapped.
 */
export function shellCommandOf(entry: string): string {
  const text = entry.trim();
  if (text.length < 2 || !text.startsWith('"') || !text.endsWith('"')) return entry;
  const document = parseDocument(text);
  if (document.errors.length > 0 || document.warnings.length > 0) return entry;
  const { contents } = document;
  if (!isScalar(contents) || contents.type !== "QUOTE_DOUBLE" || typeof contents.value !== "string")
    return entry;
  // Anything behind the closing quote (a comment, say) means that the entry is more than that one string.
  return contents.range?.[1] === text.length ? contents.value : entry;
}
