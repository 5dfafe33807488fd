/** A VM's own disk. */
import { mkdtemp } from "node:fs/promises";
import { join } from "node:path";
import { removeTree } from "../src/host/files.ts";
import { run } from "../src/host/run.ts";
import { createClone } from "../src/images/clones.ts";
import { BENCH_IMAGES, ensureGolden, startBenchDaemon } from "./images.ts";
import type { Measurement } from "./measurement.ts";
import { cloneMiB } from "./sizes.ts";

const create: Measurement = {
  metrics: [
    { name: "clone.create.ms", goal: { atMost: 20 } },
    { name: "clone.disk.MiB", goal: { atMost: 1 } },
  ],
  runs: 20,
  warmups: 2,
  async prepare() {
    const daemon = await startBenchDaemon();
    const golden = await ensureGolden(daemon).finally(() => daemon.stop());
    const directory = await mkdtemp(join(BENCH_IMAGES, "clones-"));
    return {
      async run() {
        const path = join(directory, "disk");
        const begunAt = performance.now();
        const clone = await createClone(golden, path);
        const ms = performance.now() - begunAt;
        // What is not written yet has no place yet.
        await run("sync", [path]);
        const usedMiB = await cloneMiB(clone, golden.diskPath);
        await removeTree(path);
        return { "clone.create.ms": ms, "clone.disk.MiB": usedMiB };
      },
      close: () => removeTree(directory),
    };
  },
};

export const clone: readonly Measurement[] = [create];
