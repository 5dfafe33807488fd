/** The golden image: from the base image to what clones are made of. */
import { listGolden, removeGolden } from "../src/images/golden.ts";
import { BENCH_IMAGES, ensureBase, POOL, startBenchDaemon } from "./images.ts";
import type { Measurement } from "./measurement.ts";

const build: Measurement = {
  metrics: [{ name: "golden.build.s" }],
  runs: 1,
  async prepare() {
    await ensureBase();
    const daemon = await startBenchDaemon();
    return {
      async run() {
        for (const { name } of await listGolden(BENCH_IMAGES)) await removeGolden(BENCH_IMAGES, name);
        const begunAt = performance.now();
        await daemon.prebuild(POOL);
        return { "golden.build.s": (performance.now() - begunAt) / 1_000 };
      },
      close: async () => void (await daemon.stop()),
    };
  },
};

export const golden: readonly Measurement[] = [build];
