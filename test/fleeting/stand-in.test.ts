/** GitLab's own library against the plugin, without VMs: the instances are SSH servers of the test's own. */
import assert from "node:assert/strict";
import { mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { goMissing, runPluginTests } from "../helpers/go-tests.ts";
import { createWorld, type StandInDaemon, startStandInDaemon } from "../helpers/stand-in-daemon.ts";
import { createSshMachines } from "../helpers/stand-in-ssh.ts";
import { failOnLeaks } from "../helpers/suite.ts";

failOnLeaks();

const PLUGIN = fileURLToPath(new URL("../../bin/fleeting-plugin-fleetingd", import.meta.url));
const missing = await goMissing();
// CI has Go.
const skip = process.env["CI"] === "true" ? false : (missing ?? false);

describe("the plugin, judged by the fleeting library", { skip }, async () => {
  const directory = await mkdtemp(join(tmpdir(), "fleeting-stand-in-"));
  const socket = join(directory, "daemon.sock");
  const machines = createSshMachines();
  const world = createWorld({ machines });
  const env = { TMPDIR: directory };
  let daemon: StandInDaemon;
  before(async () => {
    daemon = await startStandInDaemon(socket, world);
  });
  after(async () => {
    await daemon.stop();
    await rm(directory, { recursive: true });
  });
  const assertAllGone = async (): Promise<void> => {
    assert.equal(world.instances.size, 0);
    assert.equal(machines.running.size, 0);
    assert.deepEqual(await readdir(directory), ["daemon.sock"], "no socket folder of the plugin is left");
  };

  test("the library's conformance test", async () => {
    const output = await runPluginTests({
      module: "provisioning",
      pluginPath: PLUGIN,
      config: { socket },
      run: "^TestProvisioning$",
      env,
      timeoutMs: 120_000,
    });
    assert.match(output, /--- PASS: TestProvisioning/);
    assert.ok(world.calls.includes("connectInfo"), "it has logged in");
    await assertAllGone();
  });

  test("a go-plugin host that wants mutual TLS", async () => {
    const output = await runPluginTests({
      module: "provisioning",
      pluginPath: PLUGIN,
      config: { socket },
      run: "^TestAutoMTLS$",
      env,
      timeoutMs: 60_000,
    });
    assert.match(output, /--- PASS: TestAutoMTLS/);
    await assertAllGone();
  });

  test("the plugin's log, read by go-plugin as GitLab Runner reads it", async () => {
    world.capacity = 2;
    const output = await runPluginTests({
      module: "provisioning",
      pluginPath: PLUGIN,
      config: { socket, password: "not-to-be-logged" },
      run: "^TestLog$",
      env: { ...env, FLEETING_TEST_MAX: "2" },
      timeoutMs: 60_000,
    });
    world.capacity = 10;
    assert.match(output, /--- PASS: TestLog/);
    await assertAllGone();
  });

  test("the real task scaler: three tasks, each on an instance of its own", async () => {
    const output = await runPluginTests({
      module: "taskscaler",
      pluginPath: PLUGIN,
      config: { socket },
      env: { ...env, FLEETING_TEST_READY_COMMAND: "true" },
      timeoutMs: 180_000,
    });
    assert.match(output, /--- PASS: TestTaskscaler/);
    await assertAllGone();
  });
});
