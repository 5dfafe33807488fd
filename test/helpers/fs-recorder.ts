/**
 * Records what a program does to files, and lays out what a power cut would leave of it.
 *
 * The recorder stands in front of `node:fs/promises` of this process. Of each prefix of what was done there are two remains:
 * `written`, where the kernel has kept everything (the process alone died), and `synced`, the least that a file system
 * must keep: data of files that were synced, names in folders that were synced.
 */
import fs, { promises } from "node:fs";
import { mkdir, writeFile } from "node:fs/promises";
import { syncBuiltinESMExports } from "node:module";
import { dirname, join, relative } from "node:path";

type Operation =
  | { kind: "mkdir" | "create" | "sync" | "unlink" | "remove"; path: string }
  | { kind: "write"; path: string; data: string }
  | { kind: "rename"; path: string; to: string };

export interface Recorder {
  readonly operations: readonly Operation[];
  /** Puts everything back as it was. */
  stop(): void;
}

/** From now on everything below `root` is recorded. */
export function recordFiles(root: string): Recorder {
  const operations: Operation[] = [];
  const originals = { ...promises };
  const note = (operation: Operation): void => {
    if (operation.path.startsWith(root)) operations.push(operation);
  };
  const after =
    <Arguments extends unknown[], Result>(
      work: (...words: Arguments) => Promise<Result>,
      describe: (...words: Arguments) => Operation,
    ) =>
    async (...words: Arguments): Promise<Result> => {
      const result = await work(...words);
      note(describe(...words));
      return result;
    };
  Object.assign(promises, {
    mkdir: after(originals.mkdir, (path) => ({ kind: "mkdir", path: String(path) })),
    rename: after(originals.rename, (path, to) => ({ kind: "rename", path: String(path), to: String(to) })),
    unlink: after(originals.unlink, (path) => ({ kind: "unlink", path: String(path) })),
    rm: after(originals.rm, (path) => ({ kind: "remove", path: String(path) })),
    open: async (path: string, flags: string, ...rest: [number?]) => {
      const handle = await originals.open(path, flags, ...rest);
      if (flags !== "r") note({ kind: "create", path });
      const { writeFile: write, sync } = handle;
      handle.writeFile = after(write.bind(handle), (data) => ({ kind: "write", path, data: String(data) }));
      handle.sync = after(sync.bind(handle), () => ({ kind: "sync", path }));
      return handle;
    },
  });
  syncBuiltinESMExports();
  return {
    operations,
    stop() {
      Object.assign(fs.promises, originals);
      syncBuiltinESMExports();
    },
  };
}

/** A file's data, or a folder's names. */
interface Node {
  data?: string;
  names?: Map<string, Node>;
  synced?: Node;
}

/** Lays out in the empty folder `target` what is left of these operations below `root`. */
export async function layOut(
  operations: readonly Operation[],
  root: string,
  remains: "written" | "synced",
  target: string,
): Promise<void> {
  const top: Node = { names: new Map() };
  for (const operation of operations) apply(top, root, operation);
  await write(remains === "written" ? top : survivor(top), target);
}

function apply(top: Node, root: string, operation: Operation): void {
  const folderOf = (path: string): Map<string, Node> =>
    find(top, relative(root, dirname(path))).names ?? new Map();
  const nameOf = (path: string): string => relative(dirname(path), path);
  const { path } = operation;
  switch (operation.kind) {
    case "mkdir":
      if (path !== root) folderOf(path).set(nameOf(path), { names: new Map() });
      break;
    case "create":
      folderOf(path).set(nameOf(path), { data: "" });
      break;
    case "write":
      find(top, relative(root, path)).data = operation.data;
      break;
    case "sync": {
      const node = find(top, relative(root, path));
      node.synced = node.names ? { names: new Map(node.names) } : { data: node.data ?? "" };
      break;
    }
    case "rename": {
      const moved = folderOf(path).get(nameOf(path));
      folderOf(path).delete(nameOf(path));
      if (moved !== undefined) folderOf(operation.to).set(nameOf(operation.to), moved);
      break;
    }
    case "unlink":
    case "remove":
      folderOf(path).delete(nameOf(path));
  }
}

function find(top: Node, path: string): Node {
  let node: Node | undefined = top;
  for (const name of path.split("/").filter((part) => part !== "")) node = node?.names?.get(name);
  return node ?? {};
}

/** What a power cut leaves at least: a file that was never synced is empty, a name that was never synced is not there. */
function survivor(node: Node): Node {
  if (node.names === undefined) return { data: node.synced?.data ?? "" };
  const names = [...(node.synced?.names ?? [])].map(([name, child]) => [name, survivor(child)] as const);
  return { names: new Map(names) };
}

async function write(node: Node, path: string): Promise<void> {
  if (node.names === undefined) return writeFile(path, node.data ?? "");
  await mkdir(path, { recursive: true });
  for (const [name, child] of node.names) await write(child, join(path, name));
}
