/** The golden image: from the base image to what clones are made of. */
import { listGolden, removeGolden } from "../src/images/golden.ts";
import { BENCH_IMAGES, ensureBase, POOL, startBenchDaemon } from "./images.ts";
import type { Measurement } from "./measurement.ts";
import { rssMiB } from "./sizes.ts";

const build: Measurement = {
  metrics: [{ name: "golden.build.s" }, { name: "golden.daemon.rss.MiB", goal: { atMost: 120 } }],
  runs: 1,
  async prepare() {
    await ensureBase();
    const daemon = await startBenchDaemon({ clone_mode: "boot" });
    return {
      async run() {
        for (const { name } of await listGolden(BENCH_IMAGES)) await removeGolden(BENCH_IMAGES, name);
        const begunAt = performance.now();
        await daemon.prebuild(POOL);
        const seconds = (performance.now() - begunAt) / 1_000;
        return { "golden.build.s": seconds, "golden.daemon.rss.MiB": await rssMiB(daemon.process.pid ?? 0) };
      },
      close: async () => void (await daemon.stop()),
    };
  },
};

export const golden: readonly Measurement[] = [build];
