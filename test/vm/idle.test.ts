/** VMs that are paused while they wait for a job: one that has booted, and a clone of a snapshot. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import type { InstanceStatus } from "../../src/api/status.ts";
import type { PluginClient } from "../../src/cli/demo/plugin-client.ts";
import { State } from "../../src/gen/fleeting.ts";
import { waitFor } from "../../src/host/wait.ts";
import { parseLocalData } from "../../src/sources/local/vm.ts";
import { logIn, poolToml, startTestDaemon, type TestDaemon } from "../helpers/daemon.ts";
import { needsNamespace } from "../helpers/namespace.ts";
import { failOnLeaks } from "../helpers/suite.ts";

const TIMEOUT_MS = 15 * 60_000;
const COMMAND_TIMEOUT_MS = 60_000;
const POOLS = ["booted", "cloned"] as const;

failOnLeaks();

describe("idle VMs that are to be paused", { skip: needsNamespace() }, () => {
  let daemon: TestDaemon;

  before(async () => {
    const common = { idle_mode: "paused", warm_instances: 1 };
    const pools = [
      poolToml("booted", { ...common, clone_mode: "boot" }),
      poolToml("cloned", { ...common, clone_mode: "snapshot", vm_subnet: "172.16.121.0/24" }),
    ].join("");
    daemon = await startTestDaemon({ pools, keepVms: true });
    await untilPaused();
  });

  after(async () => {
    await daemon?.stop();
    await rm(daemon?.directory ?? "", { recursive: true, force: true });
  });

  const eventually = <T>(what: string, probe: () => Promise<T | undefined>): Promise<T> =>
    waitFor(probe, { timeoutMs: TIMEOUT_MS, intervalMs: 50, what });

  async function warmOf(pool: string): Promise<InstanceStatus | undefined> {
    const { instances } = await daemon.status();
    return instances.find((one) => one.pool === pool && one.group === null && one.resting);
  }
  async function untilPaused(): Promise<void> {
    for (const pool of POOLS) await eventually(`a paused VM in ${pool}`, () => warmOf(pool));
  }
  async function processOf(id: string): Promise<number> {
    const record = JSON.parse(await readFile(join(daemon.directory, "vms", id, "record.json"), "utf8"));
    return parseLocalData(id, record.data)?.process?.pid ?? assert.fail("no process");
  }
  /** Of the processor, so far: hundredths of a second. */
  async function ticksOf(pid: number): Promise<number> {
    const [, rest = ""] = (await readFile(`/proc/${pid}/stat`, "utf8")).split(") ");
    const fields = rest.split(" ");
    return Number(fields[11]) + Number(fields[12]);
  }
  async function residentMiB(pid: number): Promise<number> {
    const status = await readFile(`/proc/${pid}/status`, "utf8");
    return Number(/^VmRSS:\s+(\d+) kB/m.exec(status)?.[1]) / 1024;
  }

  test("count as warm, and take no processor and less memory", async () => {
    for (const pool of POOLS) {
      const warm = await warmOf(pool);
      assert.equal(warm?.state, "ready");
      const pid = await processOf(warm.id);
      // A guest that runs has its clock's ticks at least; this one has none, as soon as it has given its memory back.
      await eventually(`${pool} to take no processor`, async () => {
        const before = await ticksOf(pid);
        await delay(2_000);
        return (await ticksOf(pid)) - before <= 2 ? true : undefined;
      });
      const resident = await residentMiB(pid);
      assert.ok(resident < 512, `${pool}: ${resident} MiB`);
    }
    assert.deepEqual(
      (await daemon.status()).pools.map(({ warm }) => warm),
      POOLS.map(() => ({ desired: 1, actual: 1 })),
    );
  });

  test("rest on when the daemon is killed, and are then claimed, woken, and right about the time", async () => {
    const before = await Promise.all(POOLS.map(warmOf));
    daemon.client.close();
    const ended = once(daemon.process, "exit");
    daemon.process.kill("SIGKILL");
    await ended;
    daemon = await daemon.restart();
    await untilPaused();
    for (const [index, pool] of POOLS.entries()) {
      const plugin = await daemon.attach({ pool });
      assert.equal(await plugin.increase(1), 1);
      const id = await untilRunning(plugin);
      assert.equal(id, before[index]?.id);
      try {
        await expectRightTime(await plugin.connectInfo(id));
      } finally {
        await plugin.decrease([id]);
      }
    }
  });

  test("are deleted as they are", async () => {
    await untilPaused();
    const pids = await Promise.all(POOLS.map(async (pool) => processOf((await warmOf(pool))?.id ?? "")));
    assert.ok(await daemon.stop(), daemon.log());
    // `purge` is what deletes VMs of a daemon that has ended.
    daemon = await startTestDaemon({
      pools: poolToml("booted"),
      directory: daemon.directory,
      keepDirectory: true,
    });
    await eventually("no VM", async () =>
      (await daemon.status()).instances.length === 0 ? true : undefined,
    );
    for (const pid of pids) await assert.rejects(readFile(`/proc/${pid}/stat`), { code: "ENOENT" });
  });

  /** The group hears nothing of a login before there can be one. */
  async function untilRunning(plugin: PluginClient): Promise<string> {
    return eventually("it runs", async () => {
      const [claimed] = await plugin.update();
      assert.ok(claimed?.state === State.CREATING || claimed?.state === State.RUNNING);
      return claimed.state === State.RUNNING ? claimed.instance : undefined;
    });
  }

  async function expectRightTime(info: Awaited<ReturnType<PluginClient["connectInfo"]>>): Promise<void> {
    const login = await logIn(info);
    try {
      const sentAt = Date.now();
      const { stdout } = await login.exec("date +%s%3N", COMMAND_TIMEOUT_MS);
      const [guest, now] = [Number(stdout), Date.now()];
      assert.ok(guest > sentAt - 1_000 && guest < now + 1_000, `${guest} is not in ${sentAt}…${now}`);
      const { exitCode } = await login.exec("systemctl is-system-running", COMMAND_TIMEOUT_MS);
      assert.equal(exitCode, 0);
    } finally {
      login.close();
    }
  }
});
