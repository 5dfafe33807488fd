/** GitLab's own library against the plugin, the daemon and real VMs: the whole product, judged by its user. */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { PLUGIN, poolToml, startTestDaemon, type TestDaemon } from "../helpers/daemon.ts";
import { goMissing, type PluginTestsOptions, runPluginTests } from "../helpers/go-tests.ts";
import { needsNamespace } from "../helpers/namespace.ts";
import { failOnLeaks } from "../helpers/suite.ts";

failOnLeaks();

/** What the original's documentation tells its users to set. */
const READY_COMMAND = "cloud-init status --wait";
const TIMEOUT_MS = 20 * 60_000;

// CI has Go.
const missing = process.env["CI"] === "true" ? undefined : await goMissing();

describe("real VMs, judged by the fleeting library", { skip: missing ?? needsNamespace() }, () => {
  let daemon: TestDaemon | undefined;

  before(async () => {
    daemon = await startTestDaemon({ pools: poolToml("default", { warm_instances: 1 }) });
    await daemon.prebuild("default");
    await daemon.untilWarm("default", 1);
  });
  after(async () => assert.ok(await daemon?.stop(), daemon?.log()));

  const judge = async (module: PluginTestsOptions["module"], run: string): Promise<void> => {
    const output = await runPluginTests({
      module,
      run: `^${run}$`,
      pluginPath: PLUGIN,
      config: { pool: "default", socket: daemon?.socket },
      env: { FLEETING_TEST_READY_COMMAND: READY_COMMAND },
      timeoutMs: TIMEOUT_MS,
    });
    assert.match(output, new RegExp(`--- PASS: ${run}`));
    const status = await daemon?.status();
    assert.deepEqual(
      status?.instances.filter(({ group }) => group !== null),
      [],
      "no instance is left to the group",
    );
  };

  test("the library's conformance test", () => judge("provisioning", "TestProvisioning"));
  test("the real task scaler: three jobs, each in a VM of its own", () =>
    judge("taskscaler", "TestTaskscaler"));
});
