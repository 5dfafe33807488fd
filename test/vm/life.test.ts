/** A daemon that is killed, reloaded, drained and purged while real VMs work. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { execa } from "execa";
import type { InstanceStatus } from "../../src/api/status.ts";
import type { PluginClient } from "../../src/cli/demo/plugin-client.ts";
import type { ConnectInfoResponse } from "../../src/gen/fleeting.ts";
import { processUser } from "../../src/host/process.ts";
import { listProcesses } from "../../src/host/process-list.ts";
import { type Login, waitForLogin } from "../../src/host/ssh.ts";
import { waitFor } from "../../src/host/wait.ts";
import { recordSchema } from "../../src/pool/instance.ts";
import { FLEETINGD, logIn, poolToml, startTestDaemon, type TestDaemon } from "../helpers/daemon.ts";
import { needsNamespace } from "../helpers/namespace.ts";
import { standStill } from "../helpers/stand-still.ts";
import { failOnLeaks } from "../helpers/suite.ts";

const TIMEOUT_MS = 10 * 60_000;

failOnLeaks();

describe("while jobs run in VMs, the daemon", { skip: needsNamespace() }, () => {
  const pools = (more: Record<string, unknown>): string =>
    poolToml("default", { warm_instances: 1, orphan_timeout: "10m", ...more });
  let daemon: TestDaemon;
  let plugin: PluginClient;
  let login: Login | undefined;
  let info: ConnectInfoResponse;
  let claimed: string;

  before(async () => {
    daemon = await startTestDaemon({ pools: pools({}), keepVms: true });
    await daemon.prebuild("default");
    await daemon.untilWarm("default", 1);
    plugin = await daemon.attach({ pool: "default" });
    assert.equal(await plugin.increase(1), 1);
    claimed = (await plugin.update())[0]?.instance ?? "";
    info = await plugin.connectInfo(claimed);
    login = await logIn(info);
    await daemon.untilWarm("default", 1);
  });

  after(async () => {
    login?.close();
    await plugin?.close();
    await daemon?.stop();
    await rm(daemon?.directory ?? "", { recursive: true, force: true });
  });

  const fleetingd = (...args: string[]) =>
    execa(FLEETINGD, ["--config", join(daemon.directory, "config.toml"), ...args], {
      all: true,
      reject: false,
      timeout: TIMEOUT_MS,
    });
  /** The users that the processes of VMs run as, smallest first. */
  const vmUsers = async (): Promise<number[]> => {
    const processes = (await listProcesses()).filter(({ arguments: words }) =>
      words.some((word) => word.includes(`${daemon.directory}/`) && word.endsWith("console.log")),
    );
    const users = await Promise.all(processes.map(({ identity }) => processUser(identity.pid)));
    return users.map((user) => user ?? assert.fail("a VM has ended")).sort((a, b) => a - b);
  };
  const editRecord = async (id: string, edit: (data: Record<string, unknown>) => unknown): Promise<void> => {
    const path = join(daemon.directory, "vms", id, "record.json");
    const record = JSON.parse(await readFile(path, "utf8"));
    edit(record.data);
    await writeFile(path, JSON.stringify(record));
  };
  const until = (what: string, condition: (all: readonly InstanceStatus[]) => boolean): Promise<true> =>
    waitFor(async () => (condition((await daemon.status()).instances) ? true : undefined), {
      timeoutMs: TIMEOUT_MS,
      intervalMs: 50,
      what,
    });
  const reload = async (more: Record<string, unknown>): Promise<void> => {
    const path = join(daemon.directory, "config.toml");
    const text = await readFile(path, "utf8");
    await writeFile(path, text.slice(0, text.indexOf("[pools.")) + pools(more));
    const known = daemon.log().split("the configuration was read again").length;
    daemon.process.kill("SIGHUP");
    await waitFor(
      async () => (daemon.log().split("the configuration was read again").length > known ? true : undefined),
      { timeoutMs: TIMEOUT_MS, intervalMs: 20, what: "the configuration to be read again" },
    );
  };

  test("may be killed: the job's session goes on, and the next daemon has every VM as it was", async () => {
    const idle = (await daemon.status()).instances.find(({ group }) => group === null);
    const running = login?.exec("sleep 5; echo done", TIMEOUT_MS);
    const users = await vmUsers();
    assert.equal(new Set(users).size, 2, "each VM's process is another user's");
    assert.ok(users.every((user) => user >= 1_900_000_000));
    daemon.process.kill("SIGKILL");
    await once(daemon.process, "exit");
    // As the record of an earlier version, which knew no users.
    await editRecord(idle?.id ?? "", (data) => delete data["user"]);
    daemon = await daemon.restart();
    const { instances } = await daemon.status();
    assert.deepEqual(new Set(instances.map(({ id }) => id)), new Set([claimed, idle?.id]));
    assert.equal((await running)?.stdout, "done");
    // The plugin comes back by itself.
    const states = await waitFor(() => plugin.update().catch(() => undefined), {
      timeoutMs: TIMEOUT_MS,
      intervalMs: 100,
      what: "the plugin to attach again",
    });
    assert.deepEqual(
      states.map(({ instance }) => instance),
      [claimed],
    );
    const again = await plugin.connectInfo(claimed);
    assert.deepEqual([again.InternalAddr, again.connector?.key], [info.InternalAddr, info.connector?.key]);
    assert.equal((await login?.exec("hostname", TIMEOUT_MS))?.stdout, claimed);
    assert.deepEqual(await vmUsers(), users);
  });

  test("gives VMs of a plugin that stays away back", async () => {
    const other = await daemon.attach({ pool: "default", group: "other" });
    await daemon.untilWarm("default", 1);
    assert.equal(await other.increase(1), 1);
    const [lost] = (await other.update()).map(({ instance }) => instance);
    await daemon.untilWarm("default", 1);
    const users = await vmUsers();
    assert.equal(new Set(users).size, 3, "nor has a new one the user of one that was found");
    await reload({ orphan_timeout: "1s" });
    await other.close();
    await until("the orphan to be gone", (all) => all.every(({ id }) => id !== lost));
    await reload({});
    assert.equal((await login?.exec("hostname", TIMEOUT_MS))?.stdout, claimed, "nobody else's is");
  });

  test("replaces an idle VM whose disk is full", async () => {
    await daemon.untilWarm("default", 1);
    const idle = (await daemon.status()).instances.find(
      ({ group, state }) => group === null && state === "ready",
    );
    const path = join(daemon.directory, "vms", idle?.id ?? "", "record.json");
    const { connectInfo } = recordSchema.parse(JSON.parse(await readFile(path, "utf8")));
    const inside = await waitForLogin(
      { ...(connectInfo ?? assert.fail("it is ready")), hostKey: undefined },
      { timeoutMs: TIMEOUT_MS, signal: AbortSignal.timeout(TIMEOUT_MS) },
    );
    // Some of it is really written: the host sees that. All that is left is only taken.
    const fill =
      "yes | head -c 256M >~/much; sync; left=$(df --output=avail -B1 ~ | tail -n 1); " +
      "fallocate -l $((left - 4194304)) ~/all && ! cat /dev/zero >~/rest";
    const { exitCode, stderr } = await inside.exec(fill, TIMEOUT_MS);
    inside.close();
    assert.equal(exitCode, 0, stderr);
    await reload({ heartbeat_timeout: "12s" });
    await until("the full VM to be gone", (all) => all.every(({ id }) => id !== idle?.id));
    await reload({});
    assert.match(
      daemon.log(),
      new RegExp(`jobs on an instance would fail.*${idle?.id}.*its disk is full.*replaced=true`),
    );
    await daemon.untilWarm("default", 1);
  });

  test("replaces an idle VM that does not answer any more", async () => {
    await daemon.untilWarm("default", 1);
    const idle = (await daemon.status()).instances.find(
      ({ group, state }) => group === null && state === "ready",
    );
    const pid = await qemuOf(idle?.id ?? "");
    await reload({ heartbeat_timeout: "12s" });
    await standStill(pid);
    await until("the silent VM to be gone", (all) => all.every(({ id }) => id !== idle?.id));
    await reload({});
    await daemon.untilWarm("default", 1);
    assert.match(daemon.log(), /an instance ended by itself.*has not answered for/);
  });

  test("says what only a restart can change, and refuses a broken configuration as a whole", async () => {
    await reload({ vm_memory_mb: 768 });
    assert.match(daemon.log(), /vm_memory_mb has changed, which takes effect with a restart/);
    const path = join(daemon.directory, "config.toml");
    const good = await readFile(path, "utf8");
    await writeFile(path, `${good}\nwarm = 5\n`);
    daemon.process.kill("SIGHUP");
    await waitFor(async () => (/the earlier one holds/.test(daemon.log()) ? true : undefined), {
      timeoutMs: TIMEOUT_MS,
      intervalMs: 20,
      what: "the refusal",
    });
    await writeFile(path, good);
    await reload({});
  });

  test("drains: idle VMs go at once, the job's when it has ended", async () => {
    const draining = fleetingd("drain");
    await until("only the job's VM to be left", (all) => all.map(({ id }) => id).join() === claimed);
    assert.equal(await plugin.increase(1), 0);
    assert.equal((await login?.exec("hostname", TIMEOUT_MS))?.stdout, claimed);
    login?.close();
    assert.deepEqual(await plugin.decrease([claimed]), [claimed]);
    const { exitCode, all } = await draining;
    assert.equal(exitCode, 0, all);
    assert.deepEqual((await daemon.status()).instances, []);
    assert.equal((await fleetingd("drain", "--undo")).exitCode, 0);
    await until("a VM to be made again", (instances) => instances.length === 1);
  });

  test("leaves nothing that purge would not find", async () => {
    const refused = await fleetingd("purge", "--yes");
    assert.equal(refused.exitCode, 1);
    assert.match(refused.all, /another daemon is listening/);
    await daemon.untilWarm("default", 1);
    daemon.process.kill("SIGKILL");
    await once(daemon.process, "exit");
    const { exitCode, all } = await fleetingd("purge", "--yes");
    assert.equal(exitCode, 0, all);
    assert.equal((await execa("nft", ["list", "tables"])).stdout, "");
    assert.doesNotMatch((await execa("ip", ["-o", "link"])).stdout, /fltap/);
  });

  /** The hypervisor's process, which has the VM's folder among its arguments. */
  async function qemuOf(id: string): Promise<number> {
    const { stdout } = await execa("pgrep", ["--full", `qemu-system.*${id}`]);
    return Number(stdout.split("\n")[0]);
  }
});
