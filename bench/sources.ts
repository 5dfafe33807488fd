/**
 * What a machine at a cloud costs its server and us, and what the program that this replaces does for the same. Each cloud is measured in
 * the same way: some machines are made and deleted, with requests counted at the server; then many are looked at.
 */
import { FleetingdError } from "../src/errors.ts";
import type { MachineData } from "../src/sources/remote/cloud.ts";
import type { Measurement } from "./measurement.ts";
import { incus } from "./sources/incus.ts";
import { libvirt } from "./sources/libvirt.ts";
import { openstack } from "./sources/openstack.ts";
import {
  type CloudBench,
  idsOf,
  inParts,
  make,
  OWNER,
  processorMs,
  type Site,
  TIMEOUT_MS,
} from "./sources/site.ts";
import { vcd } from "./sources/vcd.ts";

const MANY = 500;
/** The system counts what programs use in steps of 10 ms. */
const LOOKS = 5;
const MS_PER_MINUTE = 60_000;

/** Makes machines, says when all of them can be used, and deletes them. */
type Way = (site: Site, made: () => void) => Promise<void>;

function measureWay(bench: CloudBench, name: string, { runs, way }: { runs: number; way: Way }): Measurement {
  const [rate, requests] = [`source.${name}.rate.per-minute`, `source.${name}.machine.requests`];
  return {
    metrics: [{ name: rate }, { name: requests }],
    runs,
    warmups: bench.warmups ?? 0,
    async prepare() {
      const site = await bench.start();
      return {
        async run() {
          const from = await site.requests();
          const begunAt = performance.now();
          let madeMs = Number.NaN;
          await way(site, () => {
            madeMs = performance.now() - begunAt;
          });
          return {
            [rate]: (bench.machines * MS_PER_MINUTE) / madeMs,
            [requests]: ((await site.requests()) - from) / bench.machines,
          };
        },
        close: () => site.stop(),
      };
    },
  };
}

function ourWay({ machines, creates, deletes }: CloudBench): Way {
  return async (site, made) => {
    const cloud = await site.open();
    const saved = new Map<string, MachineData>();
    const ids = idsOf(machines);
    await inParts(ids, creates, async (id) => void saved.set(id, await make(cloud, id)));
    made();
    const signal = AbortSignal.timeout(TIMEOUT_MS);
    await inParts(ids, deletes, (id) =>
      cloud.remove({ id, owner: OWNER, data: saved.get(id) ?? {} }, signal),
    );
    await cloud.close?.();
  };
}

/** What we do ourselves for a look at all machines. */
function measurePoll(bench: CloudBench): Measurement {
  const name = `source.${bench.name}.poll.${MANY}.ms`;
  return {
    metrics: [{ name }],
    runs: 10,
    warmups: 2,
    async prepare() {
      const { cloud, serverMs = () => 0, stop } = await bench.startWithMany(MANY);
      return {
        async run() {
          const [ownMs, othersMs] = [await processorMs(), serverMs()];
          for (let look = 0; look < LOOKS; look++) {
            const { length } = await cloud.list(OWNER, AbortSignal.timeout(TIMEOUT_MS));
            if (length !== MANY) throw new FleetingdError("INTERNAL", `${length} machines were listed`);
          }
          return { [name]: ((await processorMs()) - ownMs - (serverMs() - othersMs)) / LOOKS };
        },
        async close() {
          await cloud.close?.();
          await stop();
        },
      };
    },
  };
}

export const sources: readonly Measurement[] = [incus, openstack, vcd, libvirt].flatMap((bench) => [
  measureWay(bench, bench.name, { runs: 3, way: ourWay(bench) }),
  measureWay(bench, `${bench.name}.original`, { runs: 1, way: (site, made) => site.original(made) }),
  measurePoll(bench),
]);
