/** The daemon with a pool at a real Incus server: what a runner sees, across restarts of both. */
import assert from "node:assert/strict";
import { mkdtemp, rm, symlink } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import type { PluginClient } from "../../src/cli/demo/plugin-client.ts";
import { logIn, runningOf, startTestDaemon, type TestDaemon, tableToml } from "../helpers/daemon.ts";
import { type IncusServer, incusKeys, startIncusServer, TINY_IMAGE } from "../helpers/incus-server.ts";
import { needsNamespace } from "../helpers/namespace.ts";
import { failOnLeaks } from "../helpers/suite.ts";
import { createUntil } from "../helpers/until.ts";

const TIMEOUT_MS = 60_000;
const until = createUntil({ timeoutMs: TIMEOUT_MS, intervalMs: 100 });

failOnLeaks();

describe("a daemon with a pool at Incus", { skip: needsNamespace() }, () => {
  let server: IncusServer;
  let daemon: TestDaemon;
  let plugin: PluginClient;
  let programs: string;

  before(async () => {
    server = await startIncusServer();
    const env = { PATH: await bareHost() };
    daemon = await startTestDaemon({ pools: toml(server), keepVms: true, keepDirectory: true, env });
    await daemon.untilWarm("ci", 1);
    plugin = await daemon.attach({ pool: "ci", group: "g" });
  });
  after(async () => {
    await daemon.stop();
    await rm(daemon.directory, { recursive: true, force: true });
    await rm(programs, { recursive: true, force: true });
    await server.remove();
  });

  /** Where programs are looked for there is nothing of QEMU. */
  const bareHost = async (): Promise<string> => {
    programs = await mkdtemp(join(tmpdir(), "programs-"));
    for (const name of ["sh", "readlink"]) await symlink(`/usr/bin/${name}`, join(programs, name));
    await symlink(process.execPath, join(programs, "node"));
    return programs;
  };
  const names = async (): Promise<string[]> =>
    (await server.inside("incus list --format csv --columns n")).split("\n").filter((name) => name !== "");

  test("the host need not be able to have VMs as long as no pool has any there", async () => {
    const { accelerator, hypervisor } = await daemon.status();
    assert.deepEqual([accelerator, hypervisor], ["none", "none"]);
    await assert.rejects(daemon.attach({ vm_num_cpu_cores: 1 }), /the program qemu-img was not found/);
  });

  test("a job runs in an instance, and it is gone afterwards", async () => {
    assert.equal(await plugin.increase(2), 2);
    await until("two instances", async () => (await runningOf(plugin)).length === 2);
    const [first = "", second = ""] = await runningOf(plugin);
    const login = await logIn(await plugin.connectInfo(first), TIMEOUT_MS);
    assert.equal((await login.exec("hostname", TIMEOUT_MS)).stdout.trim(), first);
    login.close();
    await plugin.decrease([first]);
    await until("it to be gone", async () => !(await names()).includes(first));
    assert.ok((await names()).includes(second));
  });

  test("its instances outlive it, and the next daemon has them again", async () => {
    const before = await runningOf(plugin);
    assert.equal(await daemon.stop(), true);
    daemon = await daemon.restart();
    plugin = await daemon.attach({ pool: "ci", group: "g" });
    assert.deepEqual(await runningOf(plugin), before);
    const login = await logIn(await plugin.connectInfo(before[0] ?? ""), TIMEOUT_MS);
    login.close();
  });

  test("while the server is away its status says so, jobs go on, and then it makes instances again", async () => {
    const before = await runningOf(plugin);
    await server.stop();
    await until("the source to fail", async () => (await daemon.source("rack")).state === "failing");
    assert.match((await daemon.source("rack")).problem ?? "", /the Incus server .* can't be asked/);
    const login = await logIn(await plugin.connectInfo(before[0] ?? ""), TIMEOUT_MS);
    login.close();
    await server.start();
    await until("the source to work", async () => (await daemon.source("rack")).state === "ok");
    assert.deepEqual(await runningOf(plugin), before);
    await until("the pool to have room", async () => (await plugin.increase(1)) === 1);
    await until("another instance", async () => (await runningOf(plugin)).length === before.length + 1);
  });

  test("a daemon that takes its instances along deletes them all, and no other", async () => {
    await server.inside(`incus launch ${TINY_IMAGE} stranger >/dev/null`);
    assert.equal(await daemon.stop(), true);
    daemon = await startTestDaemon({ pools: toml(server), directory: daemon.directory, keepDirectory: true });
    assert.equal(await daemon.stop(), true);
    assert.deepEqual(await names(), ["stranger"]);
    await server.inside("incus delete --force stranger");
  });
});

function toml(server: IncusServer): string {
  const source = tableToml("sources.rack", {
    ...incusKeys(server),
    poll_interval: "1s",
    request_timeout: "5s",
  });
  return `${source}${tableToml("pools.ci", { sources: ["rack"], warm_instances: 1, max_instances: 5 })}`;
}
