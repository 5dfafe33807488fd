/** What is being made when nobody wants it any more ends at once, however long its guest is silent. Stand-ins for VMs. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { after, afterEach, before, describe, test } from "node:test";
import { listDirectory } from "../../src/host/files.ts";
import { waitFor } from "../../src/host/wait.ts";
import type { TestDaemon } from "../helpers/daemon.ts";
import { attachGroup } from "../helpers/group-client.ts";
import { needsNamespace } from "../helpers/namespace.ts";
import { createStandInWorld, STAND_IN_POOL, type StandInWorld } from "../helpers/stand-in-world.ts";
import { failOnLeaks } from "../helpers/suite.ts";

failOnLeaks();

const TIMEOUT_MS = 60_000;
/** Less than any guest is waited for here. */
const AT_ONCE_MS = 25_000;

describe("what is being made", { skip: needsNamespace() }, () => {
  let world: StandInWorld;
  let daemon: TestDaemon;

  before(async () => {
    world = await createStandInWorld();
  });
  after(() => world.remove());

  async function start(pool: Readonly<Record<string, unknown>>, ephemeral = false): Promise<void> {
    daemon = await world.start({ pool: { warm_instances: 0, boot_timeout: "10m", ...pool }, ephemeral });
  }

  afterEach(async () => {
    await world.programs.setFault("hypervisor", undefined);
    await start({ clone_mode: "boot" }, true);
    assert.ok(await daemon.stop(), daemon.log());
    await world.assertOnly(async () => []);
  });

  const eventually = (
    what: string,
    condition: () => boolean | Promise<boolean>,
    timeoutMs = TIMEOUT_MS,
  ): Promise<true> =>
    waitFor(async () => ((await condition()) ? true : undefined), { timeoutMs, intervalMs: 10, what });

  /** Like systemd, and asserts that nothing that is half made runs on. */
  async function stop(): Promise<void> {
    const stopped = daemon.stop();
    const isOver = () => daemon.process.exitCode !== null;
    await eventually("the daemon's end", isOver, AT_ONCE_MS).catch((error) => {
      daemon.process.kill("SIGKILL");
      throw error;
    });
    assert.ok(await stopped, daemon.log());
    assert.deepEqual((await world.inspect()).processes, []);
  }

  const parts = [
    ["says nothing on its channel", "mute"],
    ["does not come to rest", "stuck"],
  ] as const;
  for (const [what, fault] of parts) {
    test(`a template that ${what} ends with its daemon, and leaves nothing`, async () => {
      await world.programs.setFault("hypervisor", fault);
      await start({ clone_mode: "auto" });
      // It ends with the daemon.
      const prebuild = daemon.prebuild(STAND_IN_POOL, true).catch(String);
      await eventually("a template", async () =>
        (await world.inspect()).processes.some((id) => id.startsWith("template-")),
      );
      await stop();
      await prebuild;
      assert.deepEqual(await listDirectory(join(world.diskDirectory, "snapshots")), []);
      assert.deepEqual(await listDirectory(join(world.stateDirectory, "prebuild")), []);
    });
  }

  const instances = [
    ["goes on from a snapshot and says nothing", "snapshot", "mute", "resume"],
    ["boots and does not come up", "boot", "stuck", "ready"],
  ] as const;
  for (const [what, cloneMode, fault, phase] of instances) {
    test(`an instance that ${what} ends when it is removed, and with its daemon`, async () => {
      await start({ clone_mode: cloneMode });
      assert.notEqual(await daemon.prebuild(STAND_IN_POOL), "", daemon.log());
      await world.programs.setFault("hypervisor", fault);
      const group = await attachGroup(daemon.client, { pool: STAND_IN_POOL, group: "g" });
      const begin = async (): Promise<void> => {
        assert.equal(await group.increase(1), 1);
        await eventually("a VM that is waited for", async () => {
          const [instance] = (await daemon.status()).instances;
          const isRunning = (await world.inspect()).processes.length === 1;
          return isRunning && instance?.phases.at(-1)?.name === phase;
        });
      };
      await begin();
      await group.decrease((await group.list()).map(({ id }) => id));
      await eventually("its end", async () => (await group.list()).length === 0, AT_ONCE_MS);
      await world.assertOnly(async () => []);
      await begin();
      await stop();
    });
  }
});
