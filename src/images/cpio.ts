/** Writes cpio archives in the "newc" format, the one that the kernel unpacks as its initrd. */

export interface CpioEntry {
  /** Without a leading slash. */
  path: string;
  type: "file" | "directory" | "symlink" | "character";
  /** Permission bits. */
  mode?: number;
  /** A file's content, or a symlink's target. */
  data?: Uint8Array | string;
  /** Major and minor number of a character device. */
  device?: readonly [major: number, minor: number];
}

const TYPE_BITS = { file: 0o100000, directory: 0o040000, symlink: 0o120000, character: 0o020000 } as const;
const DEFAULT_MODE = { file: 0o644, directory: 0o755, symlink: 0o777, character: 0o600 } as const;
const TRAILER: CpioEntry = { path: "TRAILER!!!", type: "file", mode: 0 };

/** The archive's bytes: the same entries always give the same bytes (owner root, time 0). */
export function writeCpio(entries: readonly CpioEntry[]): Buffer {
  const parts = entries.map((entry, index) => encode(entry, index + 1));
  return Buffer.concat([...parts, encode(TRAILER, 0)]);
}

function encode(entry: CpioEntry, inode: number): Buffer {
  const data = Buffer.from(entry.data ?? "");
  const name = Buffer.from(`${entry.path}\0`);
  const mode = inode === 0 ? 0 : TYPE_BITS[entry.type] | (entry.mode ?? DEFAULT_MODE[entry.type]);
  const [major, minor] = entry.device ?? [0, 0];
  // inode, mode, uid, gid, links, mtime, size, device of the file system (2), of the node (2), name size, checksum
  const fields = [inode, mode, 0, 0, 1, 0, data.length, 0, 0, major, minor, name.length, 0];
  const header = Buffer.from(`070701${fields.map(hex).join("")}`);
  return Buffer.concat([pad(Buffer.concat([header, name])), pad(data)]);
}

function hex(value: number): string {
  return value.toString(16).padStart(8, "0");
}

function pad(data: Buffer): Buffer {
  const rest = data.length % 4;
  return rest === 0 ? data : Buffer.concat([data, Buffer.alloc(4 - rest)]);
}
