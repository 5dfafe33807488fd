/** VMware Cloud Director: the stand-in, and fleeting-plugin-vcd's calls by the vendor's client. */
import { FleetingdError } from "../../src/errors.ts";
import { waitFor } from "../../src/host/wait.ts";
import { describe, vappName } from "../../src/sources/vcd/ownership.ts";
import { VcdCloud } from "../../src/sources/vcd/vcd.ts";
import { buildGoTests, goMissing, runGoTests } from "../../test/helpers/go-tests.ts";
import { startVcdSite, type VcdSite } from "../../test/helpers/vcd/site.ts";
import { allVms, createVApp, createVm, type VApp } from "../../test/helpers/vcd/world.ts";
import { type CloudBench, idsOf, OWNER, TIMEOUT_MS } from "./site.ts";

const MACHINES = 6;
const POLL_MS = 20;
/** A server that is quick, so that what is waited for is mostly of one's own making. */
const SERVER = { taskMs: 200, copyMs: 2_000, bootMs: 500 };

export const vcd: CloudBench = {
  name: "vcd",
  machines: MACHINES,
  creates: 3,
  deletes: 5,
  async start() {
    if ((await goMissing()) === undefined) await buildGoTests("vcd-client");
    const site = await startVcdSite({ withGuests: false });
    site.steer(SERVER);
    const { director } = site;
    return {
      open: async () => new VcdCloud(site.config()),
      requests: () => director.requests.length,
      original: (made) => makeAsTheOriginal(site, made),
      stop: () => site.stop(),
    };
  },
  async startWithMany(count) {
    const site = await startVcdSite({ withGuests: false });
    const { director } = site;
    director.world.vapps.push(...idsOf(count).map((id) => runningVApp(site, id)));
    return { cloud: new VcdCloud(site.config()), serverMs: () => director.busyMs, stop: () => site.stop() };
  },
};

async function makeAsTheOriginal(site: VcdSite, made: () => void): Promise<void> {
  const missing = await goMissing();
  if (missing !== undefined) throw new FleetingdError("UNAVAILABLE", missing);
  const { world } = site.director;
  const areUp = async (): Promise<true | undefined> =>
    allVms(world).filter(({ state }) => state === "on").length === MACHINES || undefined;
  const env = { ...site.goEnvironment, VCD_COUNT: String(MACHINES) };
  await Promise.all([
    runGoTests({ module: "vcd-client", run: "^TestTheOriginalsWay$", timeoutMs: TIMEOUT_MS, env }),
    waitFor(areUp, { timeoutMs: TIMEOUT_MS, intervalMs: POLL_MS, what: "the machines" }).then(made),
  ]);
}

function runningVApp({ director }: VcdSite, id: string): VApp {
  const vapp = createVApp(vappName("fleetingd", OWNER, id), describe("bench", OWNER, id));
  vapp.state = "resolved";
  const [template] = director.world.templates;
  if (template === undefined) throw new FleetingdError("INTERNAL", "there is no template");
  vapp.vms.push({ ...createVm(vapp, template, id), state: "on" });
  return vapp;
}
