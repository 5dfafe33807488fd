/** Reads lists of checksums as sha256sum writes them. */

/** `file name -> 64 hexadecimal digits`; lines of any other form are no checksums and are left out. */
export function parseSha256Sums(text: string): ReadonlyMap<string, string> {
  const sums = new Map<string, string>();
  for (const line of text.split("\n")) {
    const [, sum, name] = /^([0-9a-fA-F]{64}) [ *](?:\.\/)?(\S+)\r?$/.exec(line) ?? [];
    if (sum !== undefined && name !== undefined) sums.set(name, sum.toLowerCase());
  }
  return sums;
}
