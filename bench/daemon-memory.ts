/** What a daemon with the preload test/helpers/memory.mjs has in use. */
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { readTextIfExists } from "../src/host/files.ts";
import { waitFor } from "../src/host/wait.ts";
import type { TestDaemon } from "../test/helpers/daemon.ts";
import type { StandInWorld } from "../test/helpers/stand-in-world.ts";

const TIMEOUT_MS = 120_000;

/** For its environment: FLEETINGD_MEMORY_FILE. */
export const memoryFile = (world: StandInWorld): string => join(world.folder, "memory");

/** What it has in use after it has collected its garbage. */
export async function usedBytes(world: StandInWorld, daemon: TestDaemon): Promise<number> {
  await rm(memoryFile(world), { force: true });
  daemon.process.kill("SIGUSR2");
  const written = () => readTextIfExists(memoryFile(world));
  return Number(
    await waitFor(written, { timeoutMs: TIMEOUT_MS, intervalMs: 10, what: "the daemon's memory" }),
  );
}
