/** A preload for the daemon under test: from SIGUSR2 on no disk tells its free space any more, and a minute has passed. */
import fs from "node:fs";
import { syncBuiltinESMExports } from "node:module";

const MINUTE_MS = 60_000;
const { statfs } = fs.promises;
const now = performance.now.bind(performance);
let hangs = false;

fs.promises.statfs = (...args) => (hangs ? new Promise(() => undefined) : statfs(...args));
performance.now = () => now() + (hangs ? MINUTE_MS : 0);
process.on("SIGUSR2", () => {
  hangs = true;
});
syncBuiltinESMExports();
