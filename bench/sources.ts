/** What a machine at VMware Cloud Director costs its server and us, and what the plugin that this replaces does for the same. */
import { generateSshKeyPair } from "../src/cloudinit/keys.ts";
import { FleetingdError } from "../src/errors.ts";
import { waitFor } from "../src/host/wait.ts";
import type { MachineData, Owner } from "../src/sources/remote/cloud.ts";
import { describe, vappName } from "../src/sources/vcd/ownership.ts";
import { VcdCloud } from "../src/sources/vcd/vcd.ts";
import { buildGoTests, goMissing, runGoTests } from "../test/helpers/go-tests.ts";
import { startVcdSite, type VcdSite } from "../test/helpers/vcd/site.ts";
import { allVms, createVApp, createVm, type VApp } from "../test/helpers/vcd/world.ts";
import type { Measurement, Sample } from "./measurement.ts";

const OWNER: Owner = { daemon: "bench", pool: "p" };
const MACHINES = 6;
const MANY = 500;
/** Both ways' own default. */
const CREATES = 3;
const DELETES = 5;
const TIMEOUT_MS = 600_000;
const POLL_MS = 20;
const MS_PER_MINUTE = 60_000;
/** A server that is quick, so that what is waited for is mostly of one's own making. */
const SERVER = { taskMs: 200, copyMs: 2_000, bootMs: 500 };

function metricsOf(way: string): Measurement["metrics"] {
  return [{ name: `${way}.rate.per-minute` }, { name: `${way}.machine.requests` }];
}

async function quickSite(): Promise<VcdSite> {
  const site = await startVcdSite({ withGuests: false });
  site.steer(SERVER);
  return site;
}

/** @param work makes all machines and deletes them */
async function measureWay(site: VcdSite, way: string, work: () => Promise<unknown>): Promise<Sample> {
  const { director } = site;
  const from = director.requests.length;
  const begunAt = performance.now();
  const areUp = async (): Promise<true | undefined> =>
    allVms(director.world).filter(({ state }) => state === "on").length === MACHINES || undefined;
  const made = waitFor(areUp, { timeoutMs: TIMEOUT_MS, intervalMs: POLL_MS, what: "the machines" }).then(
    () => performance.now() - begunAt,
  );
  const [madeMs] = await Promise.all([made, work()]);
  return {
    [`${way}.rate.per-minute`]: (MACHINES * MS_PER_MINUTE) / madeMs,
    [`${way}.machine.requests`]: (director.requests.length - from) / MACHINES,
  };
}

const ours: Measurement = {
  metrics: metricsOf("source.vcd"),
  runs: 3,
  async prepare() {
    const site = await quickSite();
    return {
      run: () => measureWay(site, "source.vcd", () => makeAndDelete(site)),
      close: () => site.stop(),
    };
  },
};

async function makeAndDelete(site: VcdSite): Promise<void> {
  const cloud = new VcdCloud(site.config());
  const signal = AbortSignal.timeout(TIMEOUT_MS);
  const saved = new Map<string, MachineData>();
  const ids = Array.from({ length: MACHINES }, (_, index) => `fl-bench${index}`);
  await inParts(ids, CREATES, async (id) => {
    const { publicKey } = generateSshKeyPair(id);
    const save = async (data: MachineData): Promise<void> => void saved.set(id, data);
    await cloud.create({ id, owner: OWNER, authorizedKey: publicKey, save, phase: () => undefined, signal });
  });
  await inParts(ids, DELETES, (id) => cloud.remove({ id, owner: OWNER, data: saved.get(id) ?? {} }, signal));
  await cloud.close();
}

/** So many at a time. */
async function inParts(
  ids: readonly string[],
  atOnce: number,
  work: (id: string) => Promise<void>,
): Promise<void> {
  const queue = [...ids];
  const worker = async (): Promise<void> => {
    for (let id = queue.shift(); id !== undefined; id = queue.shift()) await work(id);
  };
  await Promise.all(Array.from({ length: atOnce }, worker));
}

const original: Measurement = {
  metrics: metricsOf("source.vcd.original"),
  runs: 1,
  async prepare() {
    const missing = await goMissing();
    if (missing !== undefined) throw new FleetingdError("UNAVAILABLE", missing);
    await buildGoTests("vcd-client");
    const site = await quickSite();
    return {
      run: () =>
        measureWay(site, "source.vcd.original", () =>
          runGoTests({
            module: "vcd-client",
            run: "^TestTheOriginalsWay$",
            timeoutMs: TIMEOUT_MS,
            env: { ...site.goEnvironment, VCD_COUNT: String(MACHINES) },
          }),
        ),
      close: () => site.stop(),
    };
  },
};

/** One look at all machines: what we do ourselves, for the answers are ready. */
const poll: Measurement = {
  metrics: [{ name: `source.vcd.poll.${MANY}.ms` }],
  runs: 20,
  warmups: 3,
  async prepare() {
    const site = await startVcdSite({ withGuests: false });
    const { world } = site.director;
    for (let index = 0; index < MANY; index++) world.vapps.push(runningVApp(site, `fl-bench${index}`));
    const cloud = new VcdCloud(site.config());
    const signal = AbortSignal.timeout(TIMEOUT_MS);
    return {
      async run() {
        const [begunAt, busyMs] = [performance.now(), site.director.busyMs];
        const { length } = await cloud.list(OWNER, signal);
        if (length !== MANY) throw new FleetingdError("INTERNAL", `${length} machines were listed`);
        return {
          [`source.vcd.poll.${MANY}.ms`]: performance.now() - begunAt - (site.director.busyMs - busyMs),
        };
      },
      async close() {
        await cloud.close();
        await site.stop();
      },
    };
  },
};

function runningVApp({ director }: VcdSite, id: string): VApp {
  const vapp = createVApp(vappName("fleetingd", OWNER, id), describe("bench", OWNER, id));
  vapp.state = "resolved";
  const [template] = director.world.templates;
  if (template === undefined) throw new FleetingdError("INTERNAL", "there is no template");
  vapp.vms.push({ ...createVm(vapp, template, id), state: "on" });
  return vapp;
}

export const sources: readonly Measurement[] = [ours, original, poll];
