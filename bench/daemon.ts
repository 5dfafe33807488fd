/** The daemon at work: a warm VM is claimed and deleted, as for one job after the other. */
import { FleetingdError } from "../src/errors.ts";
import { ensureGolden, POOL, startBenchDaemon } from "./images.ts";
import type { Measurement } from "./measurement.ts";
import { deleteMs, increaseByOne } from "./requests.ts";
import { rssMiB } from "./sizes.ts";

const job: Measurement = {
  metrics: [
    { name: "claim.warm.ms", goal: { atMost: 20 } },
    { name: "delete.ms" },
    { name: "daemon.rss.MiB", goal: { atMost: 120 } },
  ],
  runs: 10,
  async prepare() {
    // No more than one: the next VM must not boot while this one is claimed and deleted.
    const daemon = await startBenchDaemon({ warm_instances: 1, max_instances: 1 });
    try {
      await ensureGolden(daemon);
      const plugin = await daemon.attach({ pool: POOL });
      return {
        async run() {
          await daemon.untilWarm(POOL, 1);
          await plugin.update();
          const begunAt = performance.now();
          const { id, running } = await increaseByOne(plugin);
          if (!running) throw new FleetingdError("INTERNAL", `${id} was not warm`);
          await plugin.connectInfo(id);
          const claimMs = performance.now() - begunAt;
          const daemonMiB = await rssMiB(daemon.process.pid ?? 0);
          return {
            "claim.warm.ms": claimMs,
            "daemon.rss.MiB": daemonMiB,
            "delete.ms": await deleteMs(plugin, id),
          };
        },
        close: async () => void (await daemon.stop()),
      };
    } catch (error) {
      await daemon.stop();
      throw error;
    }
  },
};

export const daemon: readonly Measurement[] = [job];
