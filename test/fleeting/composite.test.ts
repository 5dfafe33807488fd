/** A pool with VMs on this host first and a real Incus server when the host is full: what a runner sees of it. */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import type { PluginClient } from "../../src/cli/demo/plugin-client.ts";
import {
  logIn,
  PLUGIN,
  poolToml,
  runningOf,
  startTestDaemon,
  type TestDaemon,
  tableToml,
} from "../helpers/daemon.ts";
import { goMissing, runPluginTests } from "../helpers/go-tests.ts";
import { type IncusServer, incusKeys, startIncusServer } from "../helpers/incus-server.ts";
import { needsNamespace } from "../helpers/namespace.ts";
import { failOnLeaks } from "../helpers/suite.ts";
import { createUntil } from "../helpers/until.ts";

failOnLeaks();

const TIMEOUT_MS = 20 * 60_000;
const CLAIMED = 10;
const until = createUntil({ timeoutMs: TIMEOUT_MS, intervalMs: 200 });

// CI has Go.
const missing = process.env["CI"] === "true" ? undefined : await goMissing();

describe("a pool that overflows to Incus", { skip: missing ?? needsNamespace() }, () => {
  let server: IncusServer;
  let daemon: TestDaemon;
  let plugin: PluginClient;

  before(async () => {
    server = await startIncusServer();
    const rack = tableToml("sources.rack", { ...incusKeys(server), poll_interval: "1s", max_instances: 20 });
    const pool = poolToml("default", { warm_instances: 1, max_instances: 12 });
    const sources = 'sources = [{ source = "local", max_instances = 1 }, "rack"]\n';
    daemon = await startTestDaemon({ pools: `${rack}${pool}${sources}` });
    await daemon.prebuild("default");
    await until("the host's VM to be ready", async () => {
      const { instances } = await daemon.status();
      return instances.some(({ state, goldenImage }) => state === "ready" && goldenImage !== null);
    });
    plugin = await daemon.attach({ pool: "default", group: "g" });
  });
  after(async () => {
    const isClean = await daemon?.stop();
    await server?.remove();
    assert.ok(isClean, daemon?.log());
  });

  /** As the server says it. */
  const atIncus = async (): Promise<string[]> =>
    (await server.inside("incus list --format csv --columns n")).split("\n").filter((name) => name !== "");

  test("ten requests get ten machines: one here, for the host is full then, and the others there", async () => {
    for (let count = 0; count < CLAIMED; count++) assert.equal(await plugin.increase(1), 1);
    await until("ten machines", async () => (await runningOf(plugin)).length === CLAIMED);
    const ids = await runningOf(plugin);
    const infos = await Promise.all(ids.map((id) => plugin.connectInfo(id)));
    assert.equal(new Set(infos.map(({ InternalAddr }) => InternalAddr)).size, CLAIMED);
    const there = new Set(await atIncus());
    assert.equal(ids.filter((id) => there.has(id)).length, CLAIMED - 1);
    assert.deepEqual(
      [(await daemon.source("local")).instances, (await daemon.source("local")).state],
      [1, "full"],
    );
    for (const index of [ids.findIndex((id) => !there.has(id)), ids.findIndex((id) => there.has(id))]) {
      const info = infos[index] ?? assert.fail("a machine is missing");
      const login = await logIn(info, TIMEOUT_MS);
      assert.equal((await login.exec("hostname", TIMEOUT_MS)).stdout.trim(), ids[index]);
      login.close();
    }
  });

  test("while Incus is away no machine is given up, and afterwards none is lost, double or left", async () => {
    const before = (await runningOf(plugin)).toSorted();
    await server.stop();
    await until("the source to fail", async () => (await daemon.source("rack")).state === "failing");
    assert.deepEqual((await runningOf(plugin)).toSorted(), before);
    // Those of Incus can't go yet; nobody forgets them.
    await plugin.decrease(before.slice(0, CLAIMED / 2));
    await server.start();
    await until("the source to work", async () => (await daemon.source("rack")).state === "ok");
    assert.deepEqual((await runningOf(plugin)).toSorted(), before.slice(CLAIMED / 2));
    await plugin.decrease(before.slice(CLAIMED / 2));
    await until("all of them to be gone", async () => {
      const { instances } = await daemon.status();
      return instances.every(({ id }) => !before.includes(id));
    });
    const left = await atIncus();
    assert.deepEqual(
      left.filter((id) => before.includes(id)),
      [],
    );
    const known = (await daemon.status()).instances.map(({ id }) => id);
    assert.deepEqual(
      left.filter((id) => !known.includes(id)),
      [],
    );
  });

  test("the fleeting library takes it for one group", async () => {
    const output = await runPluginTests({
      module: "provisioning",
      run: "^TestProvisioning$",
      pluginPath: PLUGIN,
      config: { pool: "default", group: "conformance", socket: daemon.socket },
      timeoutMs: TIMEOUT_MS,
    });
    assert.match(output, /--- PASS: TestProvisioning/);
    const { instances } = await daemon.status();
    assert.deepEqual(
      instances.filter(({ group }) => group?.includes("conformance")),
      [],
    );
  });
});
