/** Our way: a clone of the golden image, started by the daemon. */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import type { InstanceStatus } from "../src/api/status.ts";
import { FleetingdError } from "../src/errors.ts";
import { waitFor } from "../src/host/wait.ts";
import { parseLocalData } from "../src/sources/local/vm.ts";
import type { TestDaemon } from "../test/helpers/daemon.ts";
import { ensureGolden, POOL, startBenchDaemon } from "./images.ts";
import type { Measurement, Sample } from "./measurement.ts";
import { deleteMs, increaseByOne } from "./requests.ts";
import { pssMiB } from "./sizes.ts";

const BOOT_TIMEOUT_MS = 5 * 60_000;
const POLL_MS = 50;

export const coldBoot: Measurement = {
  metrics: [
    { name: "boot.cold.ssh.s", goal: { atMost: 0.25, of: "boot.original.ssh.s" } },
    { name: "boot.cold.ready.s" },
    { name: "boot.cold.pss.MiB" },
  ],
  runs: 3,
  async prepare() {
    const daemon = await startBenchDaemon({ warm_instances: 0, max_instances: 1 });
    try {
      await ensureGolden(daemon);
      const plugin = await daemon.attach({ pool: POOL });
      return {
        async run() {
          const { id } = await increaseByOne(plugin);
          const sample = await watchBoot(daemon, id);
          await deleteMs(plugin, id);
          return sample;
        },
        close: async () => void (await daemon.stop()),
      };
    } catch (error) {
      await daemon.stop();
      throw error;
    }
  },
};

/** The daemon itself keeps the times of a boot's phases: `boot` ends with the first login, `ready` with the whole system. */
async function watchBoot(daemon: TestDaemon, id: string): Promise<Sample> {
  await untilInstance(daemon, id, ({ phases }) => phases.some(({ name }) => name === "ready"));
  const memoryMiB = await pssMiB(await hypervisorPid(daemon, id));
  const { phases } = await untilInstance(daemon, id, ({ state }) => state === "ready");
  const seconds = (name: string): number =>
    phases.find((phase) => phase.name === name)?.seconds ?? Number.NaN;
  return {
    "boot.cold.ssh.s": seconds("boot"),
    "boot.cold.ready.s": seconds("boot") + seconds("ready"),
    "boot.cold.pss.MiB": memoryMiB,
  };
}

function untilInstance(
  daemon: TestDaemon,
  id: string,
  fits: (instance: InstanceStatus) => boolean,
): Promise<InstanceStatus> {
  const find = async (): Promise<InstanceStatus | undefined> => {
    const instance = (await daemon.status()).instances.find((one) => one.id === id);
    if (instance === undefined || instance.state === "failed")
      throw new FleetingdError("HYPERVISOR_FAILED", `${id} did not boot: ${instance?.lastError ?? "gone"}`);
    return fits(instance) ? instance : undefined;
  };
  return waitFor(find, { timeoutMs: BOOT_TIMEOUT_MS, intervalMs: POLL_MS, what: `the boot of ${id}` });
}

async function hypervisorPid(daemon: TestDaemon, id: string): Promise<number> {
  const record = await readFile(join(daemon.directory, "vms", id, "record.json"), "utf8");
  const pid = parseLocalData(id, JSON.parse(record).data)?.process?.pid;
  if (pid !== undefined) return pid;
  throw new FleetingdError("INTERNAL", `the record of ${id} names no process`);
}
