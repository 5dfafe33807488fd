/** Reads a Debian host's apt sources, so that what is built here comes from where the host's packages come from. */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { listDirectory, readTextIfExists } from "../host/files.ts";

/**
 * The one-line entries (`deb [signed-by=…] URI SUITE COMPONENTS`) of a sources file that serve `suite` or its
 * updates: other people's repositories and other releases have no place in an image.
 */
export function entriesForSuite(text: string, format: "list" | "sources", suite: string): string[] {
  const entries = format === "list" ? parseList(text) : text.split(/\n\s*\n/).flatMap(parseStanza);
  const wanted = new Set([suite, `${suite}-updates`, `${suite}-security`]);
  return entries.filter((entry) => wanted.has(entry.suite) && entry.components.includes("main")).map(oneLine);
}

/** All entries for `suite` in this host's own sources; none if it has none. */
export async function hostEntriesForSuite(suite: string): Promise<string[]> {
  const entries = entriesForSuite((await readTextIfExists("/etc/apt/sources.list")) ?? "", "list", suite);
  const directory = "/etc/apt/sources.list.d";
  for (const name of (await listDirectory(directory)).sort()) {
    const format = /\.(list|sources)$/.exec(name)?.[1];
    if (format !== "list" && format !== "sources") continue;
    entries.push(...entriesForSuite(await readFile(join(directory, name), "utf8"), format, suite));
  }
  return [...new Set(entries)];
}

interface Entry {
  options: string;
  uri: string;
  suite: string;
  components: string[];
}

function oneLine({ options, uri, suite, components }: Entry): string {
  return ["deb", ...(options === "" ? [] : [`[${options}]`]), uri, suite, ...components].join(" ");
}

function parseList(text: string): Entry[] {
  return text.split("\n").flatMap((line) => {
    const match = /^\s*deb\s+(?:\[([^\]]*)\]\s+)?(\S+)\s+(\S+)\s+([^#]+)/.exec(line);
    if (match === null) return [];
    const [, options = "", uri = "", suite = "", components = ""] = match;
    return [{ options: options.trim(), uri, suite, components: components.trim().split(/\s+/) }];
  });
}

function parseStanza(stanza: string): Entry[] {
  const fields = new Map<string, string>();
  for (const line of stanza.split("\n")) {
    const match = /^([A-Za-z-]+):\s*(.*)$/.exec(line);
    if (match?.[1] !== undefined) fields.set(match[1].toLowerCase(), (match[2] ?? "").trim());
  }
  const words = (name: string): string[] =>
    (fields.get(name) ?? "").split(/\s+/).filter((word) => word !== "");
  if (!words("types").includes("deb") || fields.get("enabled")?.toLowerCase() === "no") return [];
  const keyring = words("signed-by")[0];
  // An inline key (its first line is empty) cannot be said in one line: apt's own trusted keys must do.
  const options = keyring?.startsWith("/") ? `signed-by=${keyring}` : "";
  return words("uris").flatMap((uri) =>
    words("suites").map((suite) => ({ options, uri, suite, components: words("components") })),
  );
}
