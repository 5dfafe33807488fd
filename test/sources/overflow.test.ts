/** A pool that begins on this host, whose VMs are stand-ins, and goes on at VMware Cloud Director: what a runner sees of it. */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import type { PoolSourceStatus } from "../../src/api/status.ts";
import type { PluginClient } from "../../src/cli/demo/plugin-client.ts";
import { State } from "../../src/gen/fleeting.ts";
import { waitFor } from "../../src/host/wait.ts";
import { logIn, type TestDaemon, tableToml } from "../helpers/daemon.ts";
import { needsNamespace } from "../helpers/namespace.ts";
import { createStandInWorld, STAND_IN_POOL, type StandInWorld } from "../helpers/stand-in-world.ts";
import { failOnLeaks } from "../helpers/suite.ts";
import { instanceOf, startVcdSite, type VcdSite } from "../helpers/vcd/site.ts";
import { API_TOKEN, NAMES } from "../helpers/vcd/world.ts";

failOnLeaks();

const TIMEOUT_MS = 120_000;

describe("a pool that overflows to VMware Cloud Director", { skip: needsNamespace() }, () => {
  let site: VcdSite;
  let world: StandInWorld;
  let daemon: TestDaemon;
  let plugin: PluginClient;

  before(async () => {
    site = await startVcdSite({ withGuests: true });
    world = await createStandInWorld();
    const director = tableToml("sources.director", {
      type: "vcd",
      url: site.director.url,
      org: NAMES.org,
      token: API_TOKEN,
      virtual_datacenter: NAMES.vdc,
      network: NAMES.network,
      catalog: NAMES.catalog,
      template: NAMES.linux,
      cost_per_hour: 1,
      poll_interval: "1s",
    });
    daemon = await world.start({
      pool: { warm_instances: 1, max_instances: 4 },
      more: `[[pools.${STAND_IN_POOL}.sources]]\nsource = "local"\nmax_instances = 2\n
[[pools.${STAND_IN_POOL}.sources]]\nsource = "director"\n${director}`,
      env: { NODE_EXTRA_CA_CERTS: site.caCertificate },
      ephemeral: true,
    });
    await daemon.untilWarm(STAND_IN_POOL, 1);
    plugin = await daemon.attach({ pool: STAND_IN_POOL, group: "g" });
  });
  after(async () => {
    assert.ok(await daemon?.stop(), daemon?.log());
    assert.deepEqual(site.director.world.vapps, [], "a vApp was left");
    await world?.remove();
    await site?.stop();
  });

  const until = (what: string, condition: () => Promise<boolean>): Promise<true> =>
    waitFor(async () => ((await condition()) ? true : undefined), {
      timeoutMs: TIMEOUT_MS,
      intervalMs: 50,
      what,
    });
  const running = async (): Promise<string[]> =>
    (await plugin.update()).filter(({ state }) => state === State.RUNNING).map(({ instance }) => instance);
  const source = async (name: string): Promise<PoolSourceStatus> => {
    const found = (await daemon.status()).pools[0]?.sources.find((one) => one.name === name);
    assert.ok(found, `there is no source ${name}`);
    return found;
  };
  const there = (): string[] => site.director.world.vapps.flatMap((vapp) => instanceOf(vapp) ?? []);

  test("what this host has no room for is made there, and can be logged in to", async () => {
    assert.equal(await plugin.increase(4), 4);
    await until("four machines", async () => (await running()).length === 4);
    const ids = await running();
    assert.equal(ids.filter((id) => there().includes(id)).length, 2);
    assert.deepEqual([(await source("local")).instances, (await source("local")).state], [2, "full"]);
    for (const id of ids) (await logIn(await plugin.connectInfo(id), TIMEOUT_MS)).close();
  });

  test("while it is away no machine is given up, and those that are not wanted any more go when it is back", async () => {
    const ids = await running();
    await site.director.stop();
    await until("the source to fail", async () => (await source("director")).state === "failing");
    assert.deepEqual(await running(), ids);
    await plugin.decrease(ids);
    await until("this host's to be gone", async () =>
      (await world.inspect()).processes.every((id) => !ids.includes(id)),
    );
    assert.deepEqual(there().filter((id) => ids.includes(id)).length, 2);
    await site.director.start();
    await until("the source to work", async () => (await source("director")).state === "ok");
    await until("the others to be gone", async () => there().every((id) => !ids.includes(id)));
  });

  test("the pool is warm again on this host alone, which costs nothing", async () => {
    await until("one machine", async () => {
      const { instances } = await daemon.status();
      return instances.length === 1 && instances[0]?.state === "ready";
    });
    assert.deepEqual(there(), []);
  });
});
