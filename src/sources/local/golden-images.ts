/**
 * A pool's golden image: found, or made from its base by a prebuild.
 *
 * Invariants:
 * - At most one prebuild of a pool runs in this process, and one of a disk directory on this host (a lock).
 * - A prebuild that fails leaves the image in use as it is, and the next call tries again: no failure is remembered
 *   but for `status`.
 * - `golden/.current-<key>` names the image that is in use for what the pool is configured to be; it is written last.
 */
import { createHash } from "node:crypto";
import { basename, join } from "node:path";
import { type PrebuildInput, prebuildCommands, renderPrebuildUserData } from "../../cloudinit/prebuild.ts";
import type { Templates } from "../../cloudinit/templates.ts";
import { describeError } from "../../errors.ts";
import type { EventSink } from "../../events.ts";
import { diskFull, explainDiskFull } from "../../host/disk-full.ts";
import { exists, freeBytes, readTextIfExists, writeFileAtomic } from "../../host/files.ts";
import { withLock } from "../../host/lock.ts";
import { abortable } from "../../host/wait.ts";
import {
  completeGolden,
  createWorkDisk,
  findGolden,
  goldenName,
  publishGolden,
} from "../../images/golden.ts";
import type { BaseImage, GoldenImage, OnProgress } from "../../images/image.ts";
import { readPrebuildReport, requireSuccess } from "../../images/report.ts";
import type { Logger } from "../../log.ts";
import type { LocalHost } from "./host.ts";
import { type PrebuildRun, runPrebuildVm } from "./prebuild.ts";

export interface GoldenImagesOptions {
  /** The pool's name. */
  pool: string;
  host: LocalHost;
  diskDirectory: string;
  diskSizeGiB: number;
  /** What the base image is made of, as configured: a part of the key under which the image in use is remembered. */
  baseKey: string;
  /** Finds or fetches the base image. */
  ensureBase(signal: AbortSignal, onProgress: OnProgress): Promise<BaseImage>;
  prebuild: PrebuildInput;
  templates: Templates;
  /** Called with each image that no VM waits for, before it is used and while the images lock is held: its snapshot is made then. */
  makeSnapshot(golden: GoldenImage, onStep: (step: string) => void): Promise<void>;
  machine: Omit<
    PrebuildRun,
    "id" | "diskDirectory" | "base" | "workDiskPath" | "userData" | "signal" | "onStep"
  >;
  logger: Logger;
  events: EventSink;
}

export interface RefreshOptions {
  /** Makes a new one even if nothing changed. */
  force: boolean;
  /** Makes a new one even if nothing changed, if the one there is is older than this. */
  maxAgeMs?: number;
  signal: AbortSignal;
  onStep(step: string): void;
}

export interface GoldenImagesStatus {
  current: GoldenImage | undefined;
  /** The name of the base image that the last prebuild found or made, also if it failed afterwards. */
  baseName: string | undefined;
  state: "none" | "running" | "done" | "failed";
  step: string | undefined;
  lastError: string | undefined;
  timings: { baseMs: number; prebuildMs: number } | undefined;
}

/** In a disk directory: held while its images are made. */
export const IMAGES_LOCK = ".images.lock";
const LOCK_TIMEOUT_MS = 60 * 60_000;
const LEFT = "cancelled while waiting for the golden image";
const FULL_BYTES = 8 * 1024 ** 2;

export class GoldenImages {
  readonly #options: GoldenImagesOptions;
  readonly #userData: string;
  readonly #listeners = new Set<(step: string) => void>();
  readonly #stopped = new AbortController();
  #current: GoldenImage | undefined;
  #running: Promise<GoldenImage> | undefined;
  /** How many VMs wait for the first image. */
  #awaitedBy = 0;
  #step: string | undefined;
  #lastError: string | undefined;
  #baseName: string | undefined;
  #timings: GoldenImagesStatus["timings"];

  constructor(options: GoldenImagesOptions) {
    this.#options = options;
    this.#userData = renderPrebuildUserData(options.prebuild, options.templates);
  }

  get status(): GoldenImagesStatus {
    const settled = this.#lastError !== undefined ? "failed" : this.#current ? "done" : "none";
    return {
      current: this.#current,
      baseName: this.#baseName,
      state: this.#running ? "running" : settled,
      step: this.#step,
      lastError: this.#lastError,
      timings: this.#timings,
    };
  }

  get diskDirectory(): string {
    return this.#options.diskDirectory;
  }

  /** The file's name in `golden/` that says which image is in use. */
  get pointerName(): string {
    return basename(this.#pointerPath());
  }

  /** Finds the image that an earlier daemon made, if there is one. */
  async recall(): Promise<void> {
    this.#current ??= await this.#remembered();
  }

  /** The image to make clones of; makes one if there is none, or it was removed. The signal ends only the waiting. */
  async current(signal: AbortSignal): Promise<GoldenImage> {
    if (this.#current !== undefined && !(await exists(this.#current.diskPath))) this.#current = undefined;
    await this.recall();
    if (this.#current !== undefined) return this.#current;
    this.#awaitedBy++;
    try {
      return await abortable(this.#build({ force: false }), signal, LEFT);
    } finally {
      this.#awaitedBy--;
    }
  }

  /** Looks for a newer base image and makes a golden image of it, or joins the prebuild that is under way. */
  async refresh(options: RefreshOptions): Promise<GoldenImage> {
    this.#listeners.add(options.onStep);
    try {
      if (this.#step !== undefined) options.onStep(this.#step);
      return await abortable(this.#build(options), options.signal, LEFT);
    } finally {
      this.#listeners.delete(options.onStep);
    }
  }

  /** Ends a prebuild that is under way and removes what it has made so far. */
  async stop(): Promise<void> {
    this.#stopped.abort();
    await Promise.allSettled([this.#running]);
  }

  #build(wanted: Pick<RefreshOptions, "force" | "maxAgeMs">): Promise<GoldenImage> {
    const { pool, events } = this.#options;
    const begunAt = performance.now();
    this.#running ??= this.#prebuild(wanted)
      .then((image) => {
        this.#current = image;
        this.#lastError = undefined;
        return image;
      })
      .catch((error: unknown) => {
        this.#lastError = describeError(error);
        this.#options.logger.error("the prebuild failed", { error: this.#lastError, stage: "INIT" });
        const seconds = (performance.now() - begunAt) / 1_000;
        events({ kind: "image-failed", pool, error: this.#lastError, seconds });
        throw error;
      })
      .finally(() => {
        this.#running = undefined;
        this.#step = undefined;
      });
    return this.#running;
  }

  async #prebuild(wanted: Pick<RefreshOptions, "force" | "maxAgeMs">): Promise<GoldenImage> {
    const { diskDirectory, ensureBase, pool, events } = this.#options;
    events({ kind: "image-begun", pool });
    // A build is nobody's in particular: callers may leave, it goes on until its own deadline.
    const { signal } = this.#stopped;
    const onWait = () => this.#say("waiting until other work on this directory's images has ended");
    const lock = { timeoutMs: LOCK_TIMEOUT_MS, signal, onWait };
    return withLock(join(diskDirectory, IMAGES_LOCK), lock, async () => {
      const begunAt = performance.now();
      this.#say("looking for the base image");
      const base = await ensureBase(signal, (progress) => this.#say(`base image: ${progressText(progress)}`));
      this.#baseName = base.name;
      const baseMs = performance.now() - begunAt;
      const existing = await this.#findUsable(base, wanted);
      const image = existing ?? (await this.#tryMake(base, signal));
      const prebuildMs = performance.now() - begunAt - baseMs;
      const made = existing === undefined;
      if (made) this.#timings = { baseMs, prebuildMs };
      // VMs that wait already boot: that takes them no longer than to wait for another one to boot.
      if (this.#awaitedBy === 0) await this.#options.makeSnapshot(image, (step) => this.#say(step));
      await writeFileAtomic(this.#pointerPath(), `${image.name}\n`);
      this.#options.logger.info("the golden image is ready", { goldenImage: image.name, made });
      const times = { baseSeconds: baseMs / 1_000, prebuildSeconds: prebuildMs / 1_000 };
      events({ kind: "image-ready", pool, goldenImage: image.name, made, ...times });
      return image;
    });
  }

  /** The newest image that was made of the same, unless a new one is wanted all the same. */
  async #findUsable(
    base: BaseImage,
    { force, maxAgeMs = Number.POSITIVE_INFINITY }: Pick<RefreshOptions, "force" | "maxAgeMs">,
  ): Promise<GoldenImage | undefined> {
    if (force) return undefined;
    const inputs = this.#inputs(base);
    const candidates = [await this.#remembered(), await findGolden(this.#options.diskDirectory, inputs)];
    return candidates.find(
      (image) => image?.inputs === inputs && Date.now() - image.createdAt.getTime() < maxAgeMs,
    );
  }

  async #tryMake(base: BaseImage, signal: AbortSignal): Promise<GoldenImage> {
    try {
      const inputs = this.#inputs(base);
      // What was made of the same at another time has other packages, and VMs may use it.
      const taken = (await findGolden(this.#options.diskDirectory, inputs)) !== undefined;
      const name = taken ? this.#inputs(base, new Date().toISOString()) : inputs;
      return await this.#make({ name, inputs }, base, signal);
    } catch (error) {
      throw await this.#explained(error);
    }
  }

  async #make(
    { name, inputs }: { name: string; inputs: string },
    base: BaseImage,
    signal: AbortSignal,
  ): Promise<GoldenImage> {
    const { host, diskDirectory, diskSizeGiB, machine, prebuild } = this.#options;
    return publishGolden(diskDirectory, name, async (directory) => {
      this.#say("copying the base image");
      const workDiskPath = await createWorkDisk(directory, base, diskSizeGiB, signal);
      const vm = {
        ...machine,
        id: `prebuild-${name}`,
        diskDirectory,
        base,
        workDiskPath,
        userData: this.#userData,
        signal,
      };
      this.#say("prebuild: booting");
      const onStep = (step: string) => this.#say(`prebuild: ${step}`);
      const report = await runPrebuildVm(host, { ...vm, onStep }, readPrebuildReport);
      requireSuccess(report, prebuildCommands(prebuild.extraCommands));
      this.#say("prebuild: publishing the golden image");
      await completeGolden(directory, { diskDirectory, name, inputs, base, report });
    });
  }

  /** The guest of a prebuild sees a full disk as errors of all kinds. */
  async #explained(error: unknown): Promise<unknown> {
    const { diskDirectory } = this.#options;
    if ((await freeBytes(diskDirectory)) < FULL_BYTES)
      return diskFull("a golden image", diskDirectory, error);
    return explainDiskFull(error, "a golden image", diskDirectory);
  }

  /** A hash of all that goes into an image; with a time, of another one that is made of the same. */
  #inputs(base: BaseImage, time?: string): string {
    const { diskSizeGiB, prebuild, templates } = this.#options;
    const templateVersion = time === undefined ? templates.version : `${templates.version} ${time}`;
    const inputs = { baseName: base.name, userData: this.#userData, diskSizeGiB, templateVersion };
    return goldenName({ ...inputs, bootProfile: prebuild.bootProfile });
  }

  async #remembered(): Promise<GoldenImage | undefined> {
    const name = (await readTextIfExists(this.#pointerPath()))?.trim();
    return name === undefined ? undefined : findGolden(this.#options.diskDirectory, name);
  }

  #pointerPath(): string {
    const { baseKey, diskSizeGiB, prebuild, diskDirectory, templates } = this.#options;
    const parts = [baseKey, this.#userData, diskSizeGiB, prebuild.bootProfile, templates.version];
    const key = createHash("sha256").update(JSON.stringify(parts)).digest("hex").slice(0, 16);
    return join(diskDirectory, "golden", `.current-${key}`);
  }

  #say(step: string): void {
    if (step === this.#step) return;
    this.#step = step;
    this.#options.logger.info(step, { stage: "INIT" });
    for (const listener of this.#listeners) listener(step);
  }
}

/** A step with its numbers, for people. */
export function progressText({ step, doneBytes, totalBytes }: Parameters<OnProgress>[0]): string {
  if (doneBytes === undefined) return step;
  const mib = (bytes: number): string => (bytes / 1024 ** 2).toFixed(0);
  return totalBytes === undefined
    ? `${step}, ${mib(doneBytes)} MiB`
    : `${step}, ${mib(doneBytes)} of ${mib(totalBytes)} MiB (${Math.floor((100 * doneBytes) / totalBytes)} %)`;
}
