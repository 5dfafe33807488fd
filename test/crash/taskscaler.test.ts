/** GitLab's own task scaler has six tasks, and the daemon is killed in the middle of them: all six end well. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { after, before, describe, test } from "node:test";
import { waitFor } from "../../src/host/wait.ts";
import { PLUGIN, type TestDaemon } from "../helpers/daemon.ts";
import { runPluginTests } from "../helpers/go-tests.ts";
import { needsNamespace } from "../helpers/namespace.ts";
import { createStandInWorld, STAND_IN_POOL, type StandInWorld } from "../helpers/stand-in-world.ts";
import { failOnLeaks } from "../helpers/suite.ts";

failOnLeaks();

const POOL = { warm_instances: 1, max_instances: 8 };
const TASKS = 6;
const TIMEOUT_MS = 120_000;

describe("the task scaler's tasks", { skip: needsNamespace() }, () => {
  let world: StandInWorld;
  let daemon: TestDaemon;

  before(async () => {
    world = await createStandInWorld();
    daemon = await world.start({ pool: POOL });
    await daemon.untilWarm(STAND_IN_POOL, POOL.warm_instances);
  });
  after(async () => {
    assert.ok(await daemon.stop(), daemon.log());
    await world.assertOnly(async () => []);
    await world.remove();
  });

  test("all end well though the daemon is killed in the middle of them", async () => {
    const killed = once(daemon.process, "exit");
    const restarted = killed.then(async () => {
      daemon.client.close();
      daemon = await world.start({ pool: POOL, ephemeral: true });
    });
    const output = await runPluginTests({
      module: "taskscaler",
      pluginPath: PLUGIN,
      config: { pool: STAND_IN_POOL, socket: daemon.socket },
      env: {
        FLEETING_TEST_TASKS: String(TASKS),
        FLEETING_TEST_HALFWAY: `kill -9 ${daemon.process.pid}`,
        FLEETING_TEST_READY_COMMAND: "true",
      },
      timeoutMs: TIMEOUT_MS,
    });
    assert.match(output, /--- PASS: TestTaskscaler/);
    assert.match(output, new RegExp(`${TASKS} tasks ran on`));
    assert.deepEqual(await killed, [null, "SIGKILL"]);
    await restarted;
    const isAlone = async (): Promise<true | undefined> => {
      const { instances } = await daemon.status();
      const idle = instances.filter(({ state, group }) => state === "ready" && group === null);
      return instances.length === 1 && idle.length === 1 ? true : undefined;
    };
    await waitFor(isAlone, {
      timeoutMs: TIMEOUT_MS,
      intervalMs: 20,
      what: "only the warm instance to be left",
    });
    await world.assertOnly(async () => (await daemon.status()).instances);
  });
});
