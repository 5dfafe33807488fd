/** The daemon with 200 VMs, which are stand-ins: to take over, to watch, to remember. */
import { once } from "node:events";
import { readFile } from "node:fs/promises";
import { sleep } from "../src/host/wait.ts";
import type { TestDaemon } from "../test/helpers/daemon.ts";
import { createStandInWorld, STAND_IN_POOL } from "../test/helpers/stand-in-world.ts";
import { memoryFile, usedBytes } from "./daemon-memory.ts";
import type { Measurement } from "./measurement.ts";

const VMS = 200;
/** Long enough that all that happens again and again has happened, a collection of its garbage included. */
const IDLE_MS = 120_000;
/** What begins with the daemon has ended by then, and what it does again and again has been compiled. */
const SETTLE_MS = 30_000;
const TICKS_PER_SECOND = 100;
const KIB = 1024;

const many: Measurement = {
  metrics: [
    { name: "adopt.200.s", goal: { atMost: 2 } },
    { name: "daemon.idle.cpu.percent", goal: { atMost: 1 } },
    { name: "daemon.per-vm.KiB", goal: { atMost: 50 } },
  ],
  runs: 3,
  async prepare() {
    const world = await createStandInWorld(VMS * 64 * 2);
    const start = (warm: number): Promise<TestDaemon> =>
      world.start({
        pool: { warm_instances: warm, max_instances: VMS },
        preload: ["memory.mjs"],
        env: { FLEETINGD_MEMORY_FILE: memoryFile(world) },
      });
    let daemon = await start(0);
    await daemon.prebuild(STAND_IN_POOL);
    const withoutVms = await usedBytes(world, daemon);
    await kill(daemon);
    daemon = await start(VMS);
    await daemon.untilWarm(STAND_IN_POOL, VMS);
    return {
      async run() {
        await kill(daemon);
        const begunAt = performance.now();
        daemon = await start(VMS);
        await daemon.untilWarm(STAND_IN_POOL, VMS);
        const adoptedMs = performance.now() - begunAt;
        await sleep(SETTLE_MS);
        return {
          "adopt.200.s": adoptedMs / 1000,
          "daemon.idle.cpu.percent": await idleCpuPercent(daemon),
          "daemon.per-vm.KiB": ((await usedBytes(world, daemon)) - withoutVms) / VMS / KIB,
        };
      },
      async close() {
        await kill(daemon);
        await (await world.start({ pool: { max_instances: VMS }, ephemeral: true })).stop();
        await world.remove();
      },
    };
  },
};

async function kill(daemon: TestDaemon): Promise<void> {
  daemon.client.close();
  const exited = once(daemon.process, "exit");
  daemon.process.kill("SIGKILL");
  await exited;
}

/** Of one core, programs that it runs included. */
async function idleCpuPercent(daemon: TestDaemon): Promise<number> {
  const pid = daemon.process.pid ?? 0;
  const before = await cpuTicks(pid);
  await sleep(IDLE_MS);
  const ticks = (await cpuTicks(pid)) - before;
  return (ticks / TICKS_PER_SECOND / (IDLE_MS / 1000)) * 100;
}

async function cpuTicks(pid: number): Promise<number> {
  const stat = await readFile(`/proc/${pid}/stat`, "utf8");
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  // utime, stime, and those of children that have ended.
  return fields.slice(11, 15).reduce((sum, field) => sum + Number(field), 0);
}

export const manyVms: readonly Measurement[] = [many];
