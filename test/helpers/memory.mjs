/**
 * A preload for the daemon under test: at SIGUSR2 it collects its garbage and writes what it has in use, in bytes, to the
 * file that FLEETINGD_MEMORY_FILE names.
 */
import { renameSync, writeFileSync } from "node:fs";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";

setFlagsFromString("--expose-gc");
const collect = runInNewContext("gc");
const path = process.env.FLEETINGD_MEMORY_FILE;

process.on("SIGUSR2", () => {
  // The second time takes what the first has set free.
  collect();
  setImmediate(() => {
    collect();
    const { heapUsed, external } = process.memoryUsage();
    writeFileSync(`${path}.tmp`, String(heapUsed + external));
    renameSync(`${path}.tmp`, path);
  });
});
