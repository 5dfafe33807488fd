/**
 * Removes images that nobody needs, and lists those that there are.
 *
 * Nothing is removed while any record cannot be read, a clone has none, or somebody works on the directory's images.
 */
import { join } from "node:path";
import type { GcDirectory, GcReport, ImageList, ImageStatus } from "../api/images.ts";
import { describeError, FleetingdError } from "../errors.ts";
import type { EventSink } from "../events.ts";
import { withLock } from "../host/lock.ts";
import { decideGarbage, type Garbage, type PoolImages } from "../images/garbage.ts";
import { diskUsage, readInventory } from "../images/inventory.ts";
import { unpublishDirectory } from "../images/publish.ts";
import type { Logger } from "../log.ts";
import type { Journal } from "../pool/journal.ts";
import { IMAGES_LOCK } from "../sources/local/golden-images.ts";
import type { LocalPool } from "./daemon-pool.ts";
import { readVmImages, strangeClones, type VmImages } from "./image-usage.ts";

export interface ImageCollectorOptions {
  pools(): readonly LocalPool[];
  /** 0: never by itself. */
  intervalMs: number;
  journal: Pick<Journal, "load">;
  logger: Logger;
  events: EventSink;
}

const FOLDERS = { golden: "golden", base: "base", snapshot: "snapshots" } as const;
const BUSY = "another process, or a prebuild, works on this directory's images";

export class ImageCollector {
  readonly #options: ImageCollectorOptions;
  #timer: NodeJS.Timeout | undefined;
  #collecting: Promise<unknown> | undefined;

  constructor(options: ImageCollectorOptions) {
    this.#options = options;
  }

  start(): void {
    const { intervalMs } = this.#options;
    if (intervalMs > 0) this.#timer = setInterval(() => void this.collectQuietly(), intervalMs);
  }

  async stop(): Promise<void> {
    clearInterval(this.#timer);
    await this.#collecting;
  }

  /** For nobody in particular: what stands in its way is logged. */
  async collectQuietly(): Promise<void> {
    if (this.#options.intervalMs === 0) return;
    try {
      const { directories } = await this.collect({ dryRun: false });
      for (const { directory, skipped } of directories) {
        if (skipped !== null)
          this.#options.logger.info("no images are removed", { directory, reason: skipped });
      }
    } catch (error) {
      this.#options.logger.error("unused images could not be removed", { error: describeError(error) });
    }
  }

  async collect({ dryRun }: { dryRun: boolean }): Promise<GcReport> {
    const begunAt = performance.now();
    const work = (async () => {
      const directories: GcDirectory[] = [];
      for (const directory of this.#directories()) {
        directories.push(dryRun ? await this.#look(directory) : await this.#clear(directory));
      }
      if (!dryRun) this.#tellRemoved(directories, (performance.now() - begunAt) / 1_000);
      return { dryRun, directories };
    })();
    this.#collecting = work.catch(() => undefined);
    return work;
  }

  #tellRemoved(directories: readonly GcDirectory[], seconds: number): void {
    const removed = directories.flatMap((one) => one.removed);
    const bytes = removed.reduce((sum, one) => sum + one.bytes, 0);
    this.#options.events({ kind: "images-removed", count: removed.length, bytes, seconds });
  }

  async list(now = Date.now()): Promise<ImageList> {
    const usage = await readVmImages(this.#options.journal, this.#options.pools);
    const images: ImageStatus[] = [];
    for (const directory of this.#directories()) images.push(...(await this.#listOf(directory, usage, now)));
    return { images };
  }

  #directories(): string[] {
    return [...new Set(this.#options.pools().map(({ config }) => config.diskDirectory))];
  }

  #poolsOf(directory: string): LocalPool[] {
    return this.#options.pools().filter(({ config }) => config.diskDirectory === directory);
  }

  async #clear(directory: string): Promise<GcDirectory> {
    try {
      return await withLock(join(directory, IMAGES_LOCK), { timeoutMs: 0 }, async () => {
        const found = await this.#look(directory);
        for (const { kind, path, bytes } of found.removed) {
          await unpublishDirectory(path);
          this.#options.logger.info("removed what no VM and no pool uses", {
            stage: "CLEANUP",
            kind,
            path,
            bytes,
          });
        }
        return found;
      });
    } catch (error) {
      if (!(error instanceof FleetingdError) || error.code !== "TIMEOUT") throw error;
      return { directory, skipped: BUSY, removed: [] };
    }
  }

  async #look(directory: string): Promise<GcDirectory> {
    const inventory = await readInventory(directory);
    const usage = await readVmImages(this.#options.journal, this.#options.pools);
    const strange = await strangeClones(directory, usage);
    const skipped = obstacle(usage, strange);
    if (skipped !== undefined) return { directory, skipped, removed: [] };
    const garbage = decideGarbage(inventory, {
      pools: this.#poolsOf(directory).map(imagesOf),
      used: new Set(vmsIn(directory, usage).map(({ goldenImage }) => goldenImage)),
      usedSnapshots: new Set(vmsIn(directory, usage).flatMap(({ snapshot }) => snapshot ?? [])),
    });
    return { directory, skipped: null, removed: await Promise.all(garbage.map(measured)) };
  }

  async #listOf(directory: string, usage: VmImages, now: number): Promise<ImageStatus[]> {
    const { golden, snapshots, bases } = await readInventory(directory);
    const pools = this.#poolsOf(directory).map((pool) => ({ name: pool.pool.name, ...imagesOf(pool) }));
    const vms = vmsIn(directory, usage);
    const ageSeconds = (createdAt: Date): number => Math.round((now - createdAt.getTime()) / 1000);
    const describe = async (
      image: { name: string; createdAt: Date },
      more: Pick<ImageStatus, "kind" | "base" | "vms" | "pools">,
    ): Promise<ImageStatus> => ({
      ...more,
      name: image.name,
      directory,
      ageSeconds: ageSeconds(image.createdAt),
      bytes: await diskUsage(join(directory, FOLDERS[more.kind], image.name)),
      current: more.pools.length > 0,
    });
    const namesOf = (has: (pool: PoolImages) => boolean): string[] =>
      pools.filter(has).map(({ name }) => name);
    return Promise.all([
      ...golden.map((image) =>
        describe(image, {
          kind: "golden",
          base: image.baseName ?? null,
          vms: vms.filter(({ goldenImage }) => goldenImage === image.name).length,
          pools: namesOf(({ current }) => current === image.name),
        }),
      ),
      ...snapshots.map((image) =>
        describe(image, {
          kind: "snapshot",
          base: image.goldenImage,
          vms: vms.filter(({ snapshot }) => snapshot === image.name).length,
          pools: namesOf(({ currentSnapshot }) => currentSnapshot === image.name),
        }),
      ),
      ...bases.map((image) =>
        describe(image, {
          kind: "base",
          base: null,
          vms: 0,
          pools: namesOf(({ baseNames }) => baseNames.includes(image.name)),
        }),
      ),
    ]);
  }
}

function obstacle({ unreadable }: VmImages, strange: readonly string[]): string | undefined {
  if (unreadable.length > 0)
    return `what VMs use is not known while a record cannot be read: ${unreadable.join("; ")}`;
  if (strange.length > 0)
    return `clones are here that belong to no record, so to another daemon: ${strange.join(", ")}`;
  return undefined;
}

function vmsIn(directory: string, { vms }: VmImages): VmImages["vms"] {
  return vms.filter(({ diskDirectory }) => diskDirectory === directory);
}

function imagesOf({ images, snapshots }: LocalPool): PoolImages {
  const { current, baseName } = images.status;
  const baseNames = [current?.baseName, baseName].filter((name) => name !== undefined);
  const currentSnapshot = snapshots.status.current?.name;
  return { current: current?.name, currentSnapshot, baseNames, pointerName: images.pointerName };
}

async function measured(garbage: Garbage): Promise<GcDirectory["removed"][number]> {
  return { ...garbage, bytes: await diskUsage(garbage.path) };
}
