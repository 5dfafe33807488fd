/**
 * What a daemon that died left on the host without a record: processes, TAPs with their rules, folders. Everything here
 * carries our mark; nothing else is ever touched.
 */
import { dirname, join } from "node:path";
import type { EventSink } from "../../events.ts";
import { exists, listFolders, removeTree } from "../../host/files.ts";
import type { Logger } from "../../log.ts";
import type { StoredInstance } from "../source.ts";
import type { LocalHost } from "./host.ts";
import { cloneSuffix, clonesDirectory, networkOf, parseLocalData } from "./vm.ts";

/** How instances are named. */
const INSTANCE = /^fl-[a-z0-9]+$/;

/**
 * Removes what no record names. Call it once at start, before anything new is made.
 * @param records every record that there is; if some could not be read, don't call this
 * @param diskDirectories where pools have their clones
 */
export async function sweepLocalHost(
  host: LocalHost,
  records: readonly StoredInstance[],
  diskDirectories: readonly string[],
  logger: Logger,
  events: EventSink,
): Promise<void> {
  const log = logger.child({ stage: "CLEANUP" });
  const data = records.flatMap((record) => parseLocalData(record.id, record.data) ?? []);
  const vmsDirectory = join(host.stateDirectory, "vms");
  const prebuildDirectory = join(host.stateDirectory, "prebuild");

  // Processes first: they hold the TAPs and the disks.
  const known = new Set(records.map(({ directory }) => directory));
  const running = await host.hypervisor.list(vmsDirectory, prebuildDirectory);
  for (const handle of running.filter(({ directory }) => !known.has(directory))) {
    log.warn("stopping a VM that has no record", { instance: handle.id, pid: handle.process.pid });
    await (await host.hypervisor.adopt(handle))?.stop({ graceMs: 0 });
    events({ kind: "leftover-removed", what: "process", name: handle.id });
  }
  const swept = await host.fabric.sweep(new Set(data.map((one) => networkOf(one).tapName)));
  if (swept.length > 0) log.warn("removed TAPs that no VM has", { taps: swept.join(", ") });
  for (const name of swept) events({ kind: "leftover-removed", what: "tap", name });

  const tell = (path: string): void => {
    log.warn("removed a folder that belongs to no VM", { path });
    events({ kind: "leftover-removed", what: "folder", name: path });
  };
  const clones = new Set(data.map(({ cloneDirectory }) => cloneDirectory));
  const parents = new Set([...diskDirectories.map(clonesDirectory), ...[...clones].map(dirname)]);
  const suffix = cloneSuffix(host.stateDirectory);
  for (const parent of parents) await removeOthers(parent, (name) => name.endsWith(suffix), clones, tell);
  await removeOthers(vmsDirectory, (name) => INSTANCE.test(name), known, tell);
  await removeTree(prebuildDirectory);
}

/** Removes all folders in `parent` that are ours by their name, but those to keep. */
async function removeOthers(
  parent: string,
  isOurs: (name: string) => boolean,
  keep: ReadonlySet<string>,
  tell: (path: string) => void,
): Promise<void> {
  for (const name of await listFolders(parent)) {
    const path = join(parent, name);
    // A record that lies there is the pool's to judge, whatever it says.
    if (!isOurs(name) || keep.has(path) || (await exists(join(path, "record.json")))) continue;
    await removeTree(path);
    tell(path);
  }
}
