/** Removes everything that a daemon of this configuration has made on this host, whatever state it is in. */
import { dirname, join } from "node:path";
import type { Config } from "../config/types.ts";
import { listDirectory, removeTree } from "../host/files.ts";
import { isLeftOver } from "../host/leftover-socket.ts";
import type { Logger } from "../log.ts";
import { createJournal } from "../pool/journal.ts";
import { sweepLocalHost } from "../sources/local/sweep.ts";
import { parseLocalData } from "../sources/local/vm.ts";
import { DRAIN_MARK } from "./drain.ts";
import { needsHost } from "./host-checks.ts";
import { lockHost } from "./host-lock.ts";
import { loadInlinePools } from "./inline-pools.ts";
import { openLocalHost } from "./local-host.ts";
import { hasLocalVms, loadLocalRecords } from "./local-records.ts";

/** In the state directory, besides the lock. */
const STATE = ["vms", "pools", "prebuild", DRAIN_MARK];
/** In a disk directory. */
const IMAGE_FOLDERS = ["snapshots", "golden", "base"];

/**
 * @param options.images Base and golden images go, too.
 * @throws FleetingdError ALREADY_EXISTS while a daemon runs
 */
export async function purge(config: Config, options: { images: boolean }, logger: Logger): Promise<void> {
  await isLeftOver(config.daemon.socketPath);
  const { stateDirectory } = config.daemon;
  const unlock = await lockHost(stateDirectory);
  try {
    const inline = await loadInlinePools(config, logger);
    const loaded = await loadLocalRecords(createJournal(stateDirectory));
    const pools = [...Object.values(config.pools), ...inline.map(([, pool]) => pool)];
    const disks = new Set([
      ...pools.map((pool) => pool.diskDirectory),
      ...loaded.records.flatMap(({ id, data }) => {
        const local = parseLocalData(id, data);
        return local === undefined ? [] : [dirname(dirname(local.cloneDirectory))];
      }),
    ]);
    if (hasLocalVms(loaded) || needsHost(pools)) {
      const { host } = await openLocalHost(config, [], logger);
      await sweepLocalHost(host, [], [...disks], logger, () => undefined);
      await host.fabric.close();
    }
    for (const name of STATE) await removeTree(join(stateDirectory, name));
    if (options.images) for (const disk of disks) await removeImages(disk);
  } finally {
    await unlock();
  }
}

async function removeImages(diskDirectory: string): Promise<void> {
  for (const folder of IMAGE_FOLDERS) {
    // One by one, so that a folder that somebody has mounted there stays.
    for (const name of await listDirectory(join(diskDirectory, folder)))
      await removeTree(join(diskDirectory, folder, name));
  }
}
