/**
 * A pool that begins on this host, whose VMs are stand-ins, and goes on at a cloud: what a runner sees of it. A cloud's own test file
 * starts the server, says here how it is asked, and calls `describeOverflow`.
 */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import type { PluginClient } from "../../src/cli/demo/plugin-client.ts";
import { callUnary } from "../../src/host/grpc.ts";
import { logIn, runningOf, type TestDaemon, tableToml } from "../helpers/daemon.ts";
import { createStandInWorld, STAND_IN_POOL, type StandInWorld } from "../helpers/stand-in-world.ts";
import { createUntil } from "../helpers/until.ts";

export interface CloudBehind {
  name: string;
  /** How many machines are wanted there. */
  machines: number;
  /** Keys of the source, when the server runs. */
  source(): Readonly<Record<string, unknown>>;
  /** What the daemon's environment has besides. */
  env?(): Readonly<Record<string, string>>;
  /** Ids of our instances, as the server says them. */
  there(): string[] | Promise<string[]>;
  stopServer(): Promise<void>;
  startServer(): Promise<void>;
}

const TIMEOUT_MS = 120_000;
const HERE = 2;
const until = createUntil({ timeoutMs: TIMEOUT_MS, intervalMs: 50 });

export function describeOverflow(cloud: CloudBehind): void {
  describe(`a pool that overflows to ${cloud.name}`, () => {
    const wanted = HERE + cloud.machines;
    let world: StandInWorld;
    let daemon: TestDaemon;
    let plugin: PluginClient;

    before(async () => {
      world = await createStandInWorld();
      const keys = { ...cloud.source(), cost_per_hour: 1, poll_interval: "1s" };
      daemon = await world.start({
        pool: { warm_instances: 1, max_instances: wanted },
        more: `[[pools.${STAND_IN_POOL}.sources]]\nsource = "local"\nmax_instances = ${HERE}\n
[[pools.${STAND_IN_POOL}.sources]]\nsource = "cloud"\n${tableToml("sources.cloud", keys)}`,
        env: cloud.env?.() ?? {},
        ephemeral: true,
      });
      await daemon.untilWarm(STAND_IN_POOL, 1);
      plugin = await daemon.attach({ pool: STAND_IN_POOL, group: "g" });
    });
    after(async () => {
      assert.ok(await daemon?.stop(), daemon?.log());
      assert.deepEqual(await cloud.there(), [], "something was left there");
      await world?.remove();
    });

    const countThere = async (ids: readonly string[]): Promise<number> => {
      const there = new Set(await cloud.there());
      return ids.filter((id) => there.has(id)).length;
    };

    test("what this host has no room for is made there, and can be logged in to", async () => {
      assert.equal(await plugin.increase(wanted), wanted);
      await until("all machines", async () => (await runningOf(plugin)).length === wanted);
      const ids = await runningOf(plugin);
      assert.equal(await countThere(ids), cloud.machines);
      const { instances, state } = await daemon.source("local");
      assert.deepEqual([instances, state], [HERE, "full"]);
      for (const id of ids) (await logIn(await plugin.connectInfo(id), TIMEOUT_MS)).close();
    });

    test("while it is away no machine is given up, and those that are not wanted any more go when it is back", async () => {
      const ids = await runningOf(plugin);
      await cloud.stopServer();
      await until("the source to fail", async () => (await daemon.source("cloud")).state === "failing");
      const { text } = await callUnary(daemon.client.metrics.bind(daemon.client), {}, TIMEOUT_MS);
      assert.match(text, /^fleetingd_source_state\{pool="ci",source="cloud",state="failing"\} 1$/m);
      assert.deepEqual(await runningOf(plugin), ids);
      await plugin.decrease(ids);
      await until("this host's to be gone", async () =>
        (await world.inspect()).processes.every((id) => !ids.includes(id)),
      );
      assert.equal((await daemon.source("cloud")).instances, cloud.machines);
      await cloud.startServer();
      await until("the source to work", async () => (await daemon.source("cloud")).state === "ok");
      await until("the others to be gone", async () => (await countThere(ids)) === 0);
    });

    test("the pool is warm again on this host alone, which costs nothing", async () => {
      await until("one machine", async () => {
        const { instances } = await daemon.status();
        return instances.length === 1 && instances[0]?.state === "ready";
      });
      assert.deepEqual(await cloud.there(), []);
    });
  });
}
