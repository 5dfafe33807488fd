import { readdir, readFile } from "node:fs/promises";
import { waitFor } from "../../src/host/wait.ts";

const TIMEOUT_MS = 60_000;

/** Stops a process, and returns when each of its threads has stopped: one that runs goes on for a moment, and may answer. */
export async function standStill(pid: number): Promise<void> {
  process.kill(pid, "SIGSTOP");
  const isStopped = async (): Promise<true | undefined> => {
    const states = await Promise.all(
      (await readdir(`/proc/${pid}/task`)).map(async (task) =>
        /^State:\s+(\w)/m.exec(await readFile(`/proc/${pid}/task/${task}/status`, "utf8"))?.at(1),
      ),
    );
    return states.every((state) => state === "T") ? true : undefined;
  };
  await waitFor(isStopped, { timeoutMs: TIMEOUT_MS, intervalMs: 1, what: `process ${pid} to stand still` });
}
