/** VMware Cloud Director: the stand-in, held to its vendor's own client, and then our source, held to the stand-in and to what every source must do. */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { VcdCloud } from "../../src/sources/vcd/vcd.ts";
import { goMissing, runGoTests } from "../helpers/go-tests.ts";
import { needsNamespace } from "../helpers/namespace.ts";
import { failOnLeaks } from "../helpers/suite.ts";
import { instanceOf, PATIENCE_MS, startVcdSite, VCD_CONFIG, type VcdSite } from "../helpers/vcd/site.ts";
import { API_TOKEN, allVms, createVApp } from "../helpers/vcd/world.ts";
import { describeCloud } from "./conformance.ts";

const noGo = process.env["CI"] === "true" ? undefined : await goMissing();

failOnLeaks();

describe("VMware Cloud Director", { skip: needsNamespace() }, () => {
  let site: VcdSite;

  before(async () => {
    site = await startVcdSite({ withGuests: true });
  });
  after(() => site?.stop());

  test("the vendor's own client takes the stand-in for a real server", { skip: noGo ?? false }, async () => {
    // The client looks at a task every three seconds.
    site.steer({ taskMs: 1, copyMs: 300 });
    await runGoTests({
      module: "vcd-client",
      timeoutMs: PATIENCE_MS,
      env: site.goEnvironment,
    });
    site.steer({});
    assert.deepEqual(site.director.world.vapps, []);
  });

  describeCloud({
    name: "VMware Cloud Director",
    open: async () => new VcdCloud(site.config()),
    config: VCD_CONFIG,
    machines: async ({ daemon, pool }) =>
      site.director.world.vapps
        .filter(({ description }) =>
          description.includes(`[fleetingd-daemon=${daemon} fleetingd-pool=${pool} `),
        )
        .map((vapp) => instanceOf(vapp) ?? ""),
    removeBehindOurBack: async (id) => site.discard(site.vappOf(id)),
    makeStranger: async () => {
      const [like] = site.director.world.vapps;
      const stranger = createVApp("stranger", "");
      stranger.state = "resolved";
      // One that looks like ours, but does not say so.
      if (like !== undefined) stranger.name = `${like.name}x`;
      site.director.world.vapps.push(stranger);
      return {
        exists: async () => site.director.world.vapps.includes(stranger),
        remove: async () => site.discard(stranger),
      };
    },
    stopServer: () => site.director.stop(),
    startServer: () => site.director.start(),
    revokeCredentials: async () => {
      site.director.world.tokens.clear();
      site.director.world.sessions.clear();
      return async () => void site.director.world.tokens.add(API_TOKEN);
    },
    limit: async (machines) => {
      site.steer({ vmQuota: allVms(site.director.world).length + machines });
      return async () => site.steer({});
    },
    limitSaid: /VM quota of \d+ of the VDC/,
    logsIn: true,
    burst: 50,
    patienceMs: PATIENCE_MS,
  });
});
