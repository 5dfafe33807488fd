/** What people do to a daemon whose VMs serve jobs: they drain it, change its configuration, end plugins, and restart it. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, afterEach, before, beforeEach, describe, test } from "node:test";
import { execa } from "execa";
import type { InstanceStatus } from "../../src/api/status.ts";
import { terminateProcess } from "../../src/host/process.ts";
import { listProcesses } from "../../src/host/process-list.ts";
import { run } from "../../src/host/run.ts";
import type { Login } from "../../src/host/ssh.ts";
import { waitFor } from "../../src/host/wait.ts";
import { FLEETINGD, logIn, poolToml, type TestDaemon } from "../helpers/daemon.ts";
import { attachGroup } from "../helpers/group-client.ts";
import { needsNamespace } from "../helpers/namespace.ts";
import { createStandInWorld, STAND_IN_POOL, type StandInWorld } from "../helpers/stand-in-world.ts";
import { failOnLeaks } from "../helpers/suite.ts";
import { Host } from "../system/plugin/host.ts";

failOnLeaks();

const POOL = { warm_instances: 1, max_instances: 6 };
const TIMEOUT_MS = 60_000;

describe("while a VM serves a job", { skip: needsNamespace() }, () => {
  let world: StandInWorld;
  let daemon: TestDaemon;
  let plugin: Host;
  let job: { id: string; login: Login };

  before(async () => {
    world = await createStandInWorld();
  });
  after(() => world.remove());

  beforeEach(async () => {
    daemon = await start();
    await daemon.untilWarm(STAND_IN_POOL, 1);
    plugin = await attach("job");
    const id = await claim(plugin);
    job = { id, login: await logIn(await plugin.connectInfo(id)) };
    await daemon.untilWarm(STAND_IN_POOL, 1);
  });
  afterEach(async () => {
    job.login.close();
    await plugin.close();
    assert.ok(await daemon.stop(), daemon.log());
    await world.assertOnly(async () => []);
  });

  async function attach(group: string): Promise<Host> {
    const host = await Host.start();
    await host.init({ pool: STAND_IN_POOL, group, socket: daemon.socket });
    return host;
  }

  async function claim(from: Host): Promise<string> {
    assert.equal(await from.increase(1), 1);
    const [{ instance = "" } = {}] = await from.update();
    return instance;
  }

  async function kill(): Promise<void> {
    daemon.client.close();
    const exited = once(daemon.process, "exit");
    daemon.process.kill("SIGKILL");
    await exited;
  }

  /** Its VMs outlive it if it is killed, and not if it is told to end. */
  const start = (): Promise<TestDaemon> => world.start({ pool: POOL, ephemeral: true });

  async function restart(): Promise<void> {
    await kill();
    daemon = await start();
  }

  async function killPlugin(host: Host): Promise<void> {
    host.child.kill("SIGKILL");
    await host.exited;
    host.hangUp();
  }

  const fleetingd = (...words: string[]) =>
    execa(FLEETINGD, ["--config", join(world.folder, "config.toml"), ...words], {
      all: true,
      reject: false,
      timeout: TIMEOUT_MS,
    });

  /** Changes the text of the pools' configuration, and has it read. */
  async function reload(change: (text: string) => string): Promise<void> {
    const path = join(world.folder, "config.toml");
    await writeFile(path, change(await readFile(path, "utf8")));
    const timesRead = (): number => daemon.log().split("the configuration was read again").length;
    const before = timesRead();
    daemon.process.kill("SIGHUP");
    await eventually("the configuration to be read", async () => timesRead() > before);
  }

  const eventually = (what: string, condition: () => Promise<boolean>): Promise<true> =>
    waitFor(async () => ((await condition()) ? true : undefined), {
      timeoutMs: TIMEOUT_MS,
      intervalMs: 10,
      what,
    });
  const untilInstances = (what: string, condition: (all: InstanceStatus[]) => boolean): Promise<true> =>
    eventually(what, async () => condition((await daemon.status()).instances));
  const onlyTheJob = (all: readonly InstanceStatus[]): boolean => all.map(({ id }) => id).join() === job.id;

  async function jobGoesOn(): Promise<void> {
    assert.equal((await job.login.exec("hostname", TIMEOUT_MS)).stdout.trim(), job.id);
    await eventually("the plugin to have it", async () => {
      const states = await plugin.updateUntilAvailable();
      return states.map(({ instance }) => instance).join() === job.id;
    });
  }

  test("a host that is drained stays so, whatever restarts the daemon, until that is undone", async () => {
    const interrupted = fleetingd("drain");
    await untilInstances("only the job's VM to be left", onlyTheJob);
    await restart();
    assert.notEqual((await interrupted).exitCode, 0);
    assert.match(daemon.log(), /the host is being drained, so no VM is made until `fleetingd drain --undo`/);
    await jobGoesOn();
    await reload(
      (text) => `${text}max_idle_age = "1h"\n${poolToml("later", { vm_subnet: "172.17.0.0/24" })}`,
    );
    await attachGroup(daemon.client, { pool: "later", group: "g" });
    const { pools } = await daemon.status();
    assert.deepEqual(
      pools.map(({ name, draining }) => [name, draining]),
      [
        [STAND_IN_POOL, true],
        ["later", true],
      ],
    );
    assert.equal(await plugin.increase(1), 0);
    assert.ok(onlyTheJob((await daemon.status()).instances));
    const drained = fleetingd("drain");
    await plugin.decrease(job.id);
    const { exitCode, all } = await drained;
    assert.equal(exitCode, 0, all);
    assert.equal((await fleetingd("drain", "--undo")).exitCode, 0);
    await daemon.untilWarm(STAND_IN_POOL, 1);
    await restart();
    await daemon.untilWarm(STAND_IN_POOL, 1);
  });

  test("a drain that is undone while a job goes on ends with a sentence, and VMs are made again", async () => {
    const interrupted = fleetingd("drain");
    await untilInstances("only the job's VM to be left", onlyTheJob);
    assert.equal((await fleetingd("drain", "--undo")).exitCode, 0);
    const { exitCode, all } = await interrupted;
    assert.equal(exitCode, 1, all);
    assert.match(all, /somebody has undone the drain/);
    await daemon.untilWarm(STAND_IN_POOL, 1);
    await jobGoesOn();
  });

  test("a pool that is taken out of the configuration ends with its last job, or goes on if it comes back", async () => {
    const name = `[pools.${STAND_IN_POOL}]`;
    let own = "";
    await reload((text) => {
      own = text.slice(text.indexOf(name));
      return text.replace(own, "");
    });
    assert.match(
      daemon.log(),
      /pool ci is not configured any more: it makes no VMs, and ends with its last job/,
    );
    await untilInstances("only the job's VM to be left", onlyTheJob);
    await jobGoesOn();
    assert.equal(await plugin.increase(1), 0);
    await reload((text) => text + own);
    await daemon.untilWarm(STAND_IN_POOL, 1);
    await jobGoesOn();
  });

  test("a host that is rebooted begins anew: of what was there nothing stays, and the job's runner hears of it", async () => {
    await kill();
    // A reboot takes all of it.
    const processes = await listProcesses();
    const own = processes.filter(({ arguments: words }) => words.join().match(/fleetingd-guard-|guest=fl-/));
    assert.ok(own.length >= 2);
    for (const { identity } of own) await terminateProcess(identity, 0);
    await run("nft", ["flush", "ruleset"]);
    for (const tap of (await world.inspect()).taps) await run("ip", ["link", "delete", "dev", tap]);
    daemon = await start();
    await eventually("the job's instance to be gone", async () => {
      const states = await plugin.updateUntilAvailable();
      return states.every(({ instance }) => instance !== job.id);
    });
    await daemon.untilWarm(STAND_IN_POOL, 1);
    await world.assertOnly(async () => (await daemon.status()).instances);
    assert.match(daemon.log(), /an instance ended by itself.*its machine was gone when the daemon started/);
    assert.notEqual(await claim(plugin), job.id);
  });

  test("a plugin that is killed has its instances back under its group's name, or they are given back in time", async () => {
    // Two at once with the same name: each has a group of its own, also when the daemon is another one.
    const [other, twin] = [await attach("other"), await attach("other")];
    const [id, twinsId] = [await claim(other), await claim(twin)];
    assert.equal(new Set([job.id, id, twinsId]).size, 3);
    await untilInstances("all to be ready", (all) => all.every(({ state }) => state === "ready"));
    for (const stranger of [job.id, twinsId])
      await assert.rejects(other.connectInfo(stranger), /there is no instance/);
    assert.deepEqual(await other.decrease(job.id), [job.id]);
    await restart();
    await jobGoesOn();
    const has = async (host: Host, wanted: string): Promise<void> =>
      assert.deepEqual(
        (await host.updateUntilAvailable()).map(({ instance }) => instance),
        [wanted],
      );
    await has(other, id);
    await has(twin, twinsId);
    await killPlugin(other);
    const next = await attach("other");
    await has(next, id);
    for (const host of [next, twin]) await killPlugin(host);
    // Their runner may come back to this one as well.
    await restart();
    await daemon.untilWarm(STAND_IN_POOL, 1);
    const left = async (): Promise<string[]> => (await daemon.status()).instances.map((one) => one.id);
    for (const orphan of [id, twinsId]) assert.ok((await left()).includes(orphan), daemon.log());
    // Its plugin has come back to this daemon, too: else the job's VM would be one of them.
    await jobGoesOn();
    await reload((text) => `${text}orphan_timeout = "1s"\n`);
    await untilInstances("the orphans to be gone", (all) =>
      all.every((one) => one.id !== id && one.id !== twinsId),
    );
    await jobGoesOn();
  });

  test("pools that runners and the configuration describe at the same time are checked one after the other", async () => {
    const common = { vm_disk_directory: world.diskDirectory, vm_disk_size_gb: 1, vm_memory_mb: 128 };
    const [first, second, third] = ["172.18.0.0/24", "172.18.0.0/25", "172.18.0.0/23"].map((subnet) => ({
      ...common,
      vm_subnet: subnet,
    }));
    // Those that are alike are one pool; of the others each would have the first one's addresses.
    const described = [first, first, second].map((keys) => attachGroup(daemon.client, keys ?? {}));
    const path = join(world.folder, "config.toml");
    const text = await readFile(path, "utf8");
    await writeFile(path, text + poolToml("third", third));
    daemon.process.kill("SIGHUP");
    daemon.process.kill("SIGHUP");
    const attached = await Promise.allSettled(described);
    await eventually("the configuration to be read or refused", async () =>
      /the configuration was (read again|not taken over)/.test(daemon.log()),
    );
    const others = (await daemon.status()).pools.filter(({ name }) => name !== STAND_IN_POOL);
    assert.equal(others.length, 1, daemon.log());
    for (const one of attached) if (one.status === "rejected") assert.match(String(one.reason), /overlaps/);
    const groups = attached.flatMap((one) => (one.status === "fulfilled" ? [one.value.name] : []));
    assert.equal(new Set(groups).size, groups.length);
    await jobGoesOn();
  });
});
