/** The snapshot: from the golden image to what clones go on from. */
import { FleetingdError } from "../src/errors.ts";
import { listSnapshots, removeSnapshot } from "../src/images/snapshots.ts";
import { snapshotBurst, snapshotClone } from "./boot-ours.ts";
import { BENCH_IMAGES, ensureGolden, POOL, startBenchDaemon } from "./images.ts";
import type { Measurement } from "./measurement.ts";
import { usedMiB } from "./sizes.ts";

const create: Measurement = {
  metrics: [{ name: "snapshot.create.s" }, { name: "snapshot.memory.MiB" }],
  runs: 1,
  async prepare() {
    const daemon = await startBenchDaemon({ clone_mode: "snapshot" });
    try {
      await ensureGolden(daemon);
    } catch (error) {
      await daemon.stop();
      throw error;
    }
    return {
      async run() {
        for (const { name } of await listSnapshots(BENCH_IMAGES)) await removeSnapshot(BENCH_IMAGES, name);
        await daemon.prebuild(POOL);
        const seconds = (await daemon.status()).pools[0]?.clones.createSeconds;
        const [made] = await listSnapshots(BENCH_IMAGES);
        if (typeof seconds !== "number" || made === undefined)
          throw new FleetingdError("INTERNAL", "no snapshot was made");
        return { "snapshot.create.s": seconds, "snapshot.memory.MiB": await usedMiB(made.memoryPath) };
      },
      close: async () => void (await daemon.stop()),
    };
  },
};

export const snapshot: readonly Measurement[] = [create, snapshotClone, snapshotBurst];
