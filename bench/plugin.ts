/** The plugin's process, started as GitLab Runner starts it. */
import { startPlugin } from "../src/cli/demo/plugin-client.ts";
import { PLUGIN } from "../test/helpers/daemon.ts";
import { POOL, startBenchDaemon } from "./images.ts";
import type { Measurement } from "./measurement.ts";
import { rssMiB } from "./sizes.ts";

/** As often as a runner asks in a minute or two: what a first call loads is loaded then. */
const UPDATES = 50;

const pluginProcess: Measurement = {
  metrics: [
    { name: "plugin.handshake.ms", goal: { atMost: 150 } },
    { name: "plugin.rss.MiB", goal: { atMost: 60 } },
  ],
  runs: 10,
  warmups: 1,
  async prepare() {
    const daemon = await startBenchDaemon();
    return {
      async run() {
        const plugin = await startPlugin(PLUGIN);
        try {
          await plugin.init({ pool: POOL, socket: daemon.socket });
          for (let count = 0; count < UPDATES; count++) await plugin.update();
          return { "plugin.handshake.ms": plugin.handshakeMs, "plugin.rss.MiB": await rssMiB(plugin.pid) };
        } finally {
          await plugin.close();
        }
      },
      close: async () => void (await daemon.stop()),
    };
  },
};

export const plugin: readonly Measurement[] = [pluginProcess];
