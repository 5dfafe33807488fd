/**
 * A pool's snapshot: found, or made of its golden image by a template VM.
 *
 * Invariants:
 * - It is only used where it fits: hypervisor, processor and the machine's sizes are in its name.
 * - No VM waits for one to be made, unless the pool wants nothing else (`clone_mode = "snapshot"`): it boots meanwhile.
 * - One that was found damaged, or that clones fail to go on from, is made anew.
 * - At most one is made at a time in this process, and one of a disk directory on this host (the images lock).
 */
import { join } from "node:path";
import { describeError, FleetingdError } from "../../errors.ts";
import { freeBytes } from "../../host/files.ts";
import { withLock } from "../../host/lock.ts";
import { abortable } from "../../host/wait.ts";
import type { GoldenImage, SnapshotImage } from "../../images/image.ts";
import {
  findSnapshot,
  publishSnapshot,
  removeSnapshot,
  snapshotDamage,
  snapshotName,
} from "../../images/snapshots.ts";
import { unpackKernel } from "../../images/unpack-kernel.ts";
import type { Logger } from "../../log.ts";
import { IMAGES_LOCK } from "./golden-images.ts";
import type { LocalHost } from "./host.ts";
import { runTemplate, type TemplateMachine } from "./template.ts";

export type CloneMode = "auto" | "snapshot" | "boot";

export interface SnapshotsOptions {
  host: LocalHost;
  diskDirectory: string;
  mode: CloneMode;
  bootProfile: "fast" | "compatible";
  machine: TemplateMachine;
  logger: Logger;
}

export interface SnapshotsStatus {
  mode: CloneMode;
  /** The snapshot that was last found to be usable; undefined: VMs boot. */
  current: SnapshotImage | undefined;
  isBeingMade: boolean;
  /** Why VMs boot although they might go on from a snapshot. */
  problem: string | undefined;
  /** How long making it took; undefined unless this process did. */
  createMs: number | undefined;
}

/** How long no snapshot is tried again after one could not be made. */
const RETRY_MS = 10 * 60_000;
/** So many clones in a row that fail say that it is the snapshot's fault. */
const MOST_FAILURES = 3;
const NONE_YET = "none was made yet of this golden image for this hypervisor, processor and size";
const LOCK_TIMEOUT_MS = 60 * 60_000;
const MIB = 1024 ** 2;

export class Snapshots {
  readonly #options: SnapshotsOptions;
  readonly #stopped = new AbortController();
  #current: SnapshotImage | undefined;
  #making: Promise<SnapshotImage> | undefined;
  #problem: string | undefined;
  #retryAt = 0;
  #failures = 0;
  #createMs: number | undefined;

  constructor(options: SnapshotsOptions) {
    this.#options = options;
    this.#problem = options.mode === "boot" ? undefined : this.#obstacle();
  }

  get status(): SnapshotsStatus {
    return {
      mode: this.#options.mode,
      current: this.#current,
      isBeingMade: this.#making !== undefined,
      problem: this.#problem,
      createMs: this.#createMs,
    };
  }

  /** Why VMs boot where snapshots are possible; undefined if they do not, or if nothing is wrong. */
  get trouble(): string | undefined {
    return this.#obstacle() === undefined ? this.#problem : undefined;
  }

  /** Finds the snapshot that an earlier daemon made, if there is one. */
  async recall(golden: GoldenImage | undefined): Promise<void> {
    if (golden !== undefined && this.#options.mode !== "boot") await this.#findUsable(golden);
  }

  /** Begins to make the one that is missing: when the pool opens, and when a VM has booted for want of it. */
  begin(golden: GoldenImage | undefined): void {
    if (golden === undefined || this.#options.mode === "boot" || this.#current !== undefined) return;
    if (this.#mayTry()) this.#makeLocked(golden);
  }

  /**
   * What a new VM goes on from; undefined if it is to boot.
   * @throws FleetingdError if the pool wants no VM to boot, and there is no snapshot
   */
  async current(golden: GoldenImage, signal: AbortSignal): Promise<SnapshotImage | undefined> {
    const { mode } = this.#options;
    if (mode === "boot") return undefined;
    const usable = await this.#findUsable(golden);
    if (usable !== undefined) return usable;
    if (this.#obstacle() === undefined) this.#problem ??= NONE_YET;
    // It boots, and is not kept waiting by a template that boots beside it: that one's turn is next.
    if (mode === "auto") return undefined;
    const making = this.#mayTry() ? this.#makeLocked(golden) : this.#making;
    if (making !== undefined) return abortable(making, signal, "cancelled while waiting for the snapshot");
    throw new FleetingdError("UNAVAILABLE", `there is no snapshot: ${this.#problem ?? "none was made"}`, {
      hint: 'With clone_mode = "auto" VMs boot meanwhile.',
    });
  }

  /** For who has just made a golden image, and holds the images lock. What goes wrong is only thrown if no VM is to boot. */
  async make(golden: GoldenImage, onStep: (step: string) => void): Promise<void> {
    const { mode } = this.#options;
    if (mode === "boot" || (mode === "auto" && this.#obstacle() !== undefined)) return;
    try {
      await this.#make(golden, onStep);
    } catch (error) {
      if (mode === "snapshot") throw error;
    }
  }

  /** A clone of it has come up. */
  succeeded(): void {
    this.#failures = 0;
  }

  /** A clone of it did not come up. */
  failed(snapshot: SnapshotImage, reason: string): void {
    this.#failures++;
    if (this.#failures < MOST_FAILURES) return;
    this.#disuse(snapshot, `${MOST_FAILURES} VMs in a row did not come up from it: ${reason}`);
    this.#retryAt = performance.now() + RETRY_MS;
  }

  /** Ends the making of one. */
  async stop(): Promise<void> {
    this.#stopped.abort();
    await Promise.allSettled([this.#making]);
  }

  #mayTry(): boolean {
    return this.#obstacle() === undefined && performance.now() >= this.#retryAt;
  }

  /** What stands against any snapshot here. */
  #obstacle(): string | undefined {
    if (this.#options.host.hypervisor.snapshots === undefined)
      return `snapshots are not possible with ${this.#options.host.hypervisor.description}`;
    if (this.#options.bootProfile === "fast") return undefined;
    return 'images with boot_profile = "compatible" have no part that gives a clone its identity';
  }

  #name(golden: GoldenImage): string | undefined {
    const { host, machine } = this.#options;
    const { snapshots } = host.hypervisor;
    if (snapshots === undefined || this.#obstacle() !== undefined) return undefined;
    return snapshotName({ ...machine, goldenImage: golden.name, platform: snapshots.platform });
  }

  async #findUsable(golden: GoldenImage): Promise<SnapshotImage | undefined> {
    const name = this.#name(golden);
    if (name === undefined) return undefined;
    const isTroubled = this.#failures >= MOST_FAILURES && performance.now() < this.#retryAt;
    const found = isTroubled ? undefined : await this.#find(name);
    const damage = found && (await snapshotDamage(found));
    if (found === undefined) {
      if (this.#current !== undefined)
        this.#problem = "the snapshot has been removed, or another one fits now";
      this.#current = undefined;
    } else if (damage !== undefined) this.#disuse(found, damage);
    else {
      this.#current = found;
      this.#problem = undefined;
    }
    return this.#current;
  }

  async #find(name: string): Promise<SnapshotImage | undefined> {
    try {
      return await findSnapshot(this.#options.diskDirectory, name);
    } catch (error) {
      this.#complain("the snapshot cannot be used, VMs boot meanwhile", describeError(error));
      return undefined;
    }
  }

  #disuse(snapshot: SnapshotImage, reason: string): void {
    this.#current = undefined;
    this.#complain("a snapshot cannot be used, VMs boot meanwhile", reason, snapshot.name);
  }

  #complain(what: string, reason: string, snapshot?: string): void {
    // Each VM that is made finds the same again.
    if (this.#problem === reason) return;
    this.#problem = reason;
    this.#options.logger.warn(what, { ...(snapshot === undefined ? {} : { snapshot }), reason });
  }

  #makeLocked(golden: GoldenImage): Promise<SnapshotImage> {
    const path = join(this.#options.diskDirectory, IMAGES_LOCK);
    const options = { timeoutMs: LOCK_TIMEOUT_MS, signal: this.#stopped.signal };
    this.#making ??= withLock(path, options, () => this.#make(golden, () => undefined)).finally(() => {
      this.#making = undefined;
    });
    // Mostly nobody waits for it; why it failed is in the log and the status.
    this.#making.catch(() => undefined);
    return this.#making;
  }

  async #make(golden: GoldenImage, onStep: (step: string) => void): Promise<SnapshotImage> {
    const begunAt = performance.now();
    try {
      const existing = await this.#findUsable(golden);
      const snapshot = existing ?? (await this.#makeNew(golden, onStep));
      this.#current = snapshot;
      this.#problem = undefined;
      this.#failures = 0;
      if (existing === undefined) {
        this.#createMs = performance.now() - begunAt;
        const { name } = snapshot;
        this.#options.logger.info("the snapshot is ready", { snapshot: name, goldenImage: golden.name });
      }
      return snapshot;
    } catch (error) {
      this.#retryAt = performance.now() + RETRY_MS;
      if (!this.#stopped.signal.aborted)
        this.#complain("no snapshot could be made, VMs boot meanwhile", describeError(error));
      throw error;
    }
  }

  async #makeNew(golden: GoldenImage, onStep: (step: string) => void): Promise<SnapshotImage> {
    const { host, diskDirectory, machine } = this.#options;
    const name = this.#name(golden);
    if (name === undefined)
      throw new FleetingdError("UNAVAILABLE", this.#obstacle() ?? "there can be no snapshot here");
    await this.#checkRoom();
    await removeSnapshot(diskDirectory, name);
    const id = `template-${name}`;
    host.admission.promise(id, machine);
    try {
      return await publishSnapshot(diskDirectory, name, golden, async (parts) => {
        if (host.hypervisor.snapshots?.mapsKernel) await this.#unpackKernel(golden, parts.kernelPath);
        await runTemplate(host, {
          ...machine,
          ...{ id, golden, parts, signal: this.#stopped.signal },
          onStep: (step) => onStep(`snapshot: ${step}`),
        });
      });
    } finally {
      host.admission.release(id);
    }
  }

  async #unpackKernel(golden: GoldenImage, path: string): Promise<void> {
    const reason = await unpackKernel(golden.kernelPath, path);
    if (reason === undefined) return;
    this.#options.logger.info("each clone keeps a copy of the kernel of its own", { reason });
  }

  async #checkRoom(): Promise<void> {
    const { host, diskDirectory, machine } = this.#options;
    const { vms, reason } = await host.admission.room(machine, diskDirectory);
    if (vms < 1) throw new FleetingdError("UNAVAILABLE", `there is no room for a template: ${reason}`);
    const freeMiB = Math.floor((await freeBytes(diskDirectory)) / MIB);
    if (freeMiB >= machine.memoryMiB) return;
    throw new FleetingdError(
      "UNAVAILABLE",
      `${diskDirectory} has ${freeMiB} MiB free, too little for the memory of a template (${machine.memoryMiB} MiB)`,
    );
  }
}
