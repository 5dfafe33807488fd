/**
 * What befalls records, clock and disks while VMs serve jobs: one sentence says it, and nothing is lost. The job's VM is a
 * stand-in, its SSH connection a real one.
 */
import assert from "node:assert/strict";
import { once } from "node:events";
import { cp, mkdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, afterEach, before, beforeEach, describe, test } from "node:test";
import { execa } from "execa";
import type { ConnectInfoReply } from "../../src/gen/fleetingd.ts";
import { exists } from "../../src/host/files.ts";
import type { Login } from "../../src/host/ssh.ts";
import { waitFor } from "../../src/host/wait.ts";
import { FLEETINGD, type TestDaemon } from "../helpers/daemon.ts";
import { attachGroup, type GroupClient } from "../helpers/group-client.ts";
import { needsNamespace } from "../helpers/namespace.ts";
import {
  createStandInWorld,
  STAND_IN_POOL,
  type StandInWorld,
  type StartOptions,
} from "../helpers/stand-in-world.ts";
import { failOnLeaks } from "../helpers/suite.ts";

failOnLeaks();

const POOL = { warm_instances: 1, max_instances: 6 };
const TIMEOUT_MS = 60_000;
const DAY_MS = 86_400_000;

describe("while a VM serves a job", { skip: needsNamespace() }, () => {
  let world: StandInWorld;
  let daemon: TestDaemon;
  let group: GroupClient;
  let job: { id: string; info: ConnectInfoReply; login: Login };

  before(async () => {
    world = await createStandInWorld();
  });
  after(() => world.remove());

  beforeEach(async () => {
    await start();
    await daemon.untilWarm(STAND_IN_POOL, 1);
    assert.equal(await group.increase(1), 1);
    const [id = ""] = await group.running();
    job = { id, info: await group.connectInfo(id), login: await group.logIn(id) };
    await daemon.untilWarm(STAND_IN_POOL, 1);
  });

  afterEach(async () => {
    job?.login.close();
    assert.ok(await daemon.stop(), daemon.log());
    await world.assertOnly(async () => []);
    await rm(world.stateDirectory, { recursive: true });
  });

  async function start(options: StartOptions = {}): Promise<void> {
    // Its VMs outlive it if it is killed, and not if it is told to end.
    daemon = await world.start({ pool: POOL, ephemeral: true, ...options });
    group = await attachGroup(daemon.client, { pool: STAND_IN_POOL, group: "job" });
  }

  async function kill(): Promise<void> {
    daemon.client.close();
    if (daemon.process.exitCode !== null || daemon.process.signalCode !== null) return;
    const exited = once(daemon.process, "exit");
    daemon.process.kill("SIGKILL");
    await exited;
  }

  async function jobGoesOn(): Promise<void> {
    const { stdout } = await job.login.exec("hostname", TIMEOUT_MS);
    assert.equal(stdout.trim(), job.id, "the connection that was open is still answered");
    assert.deepEqual(await group.running(), [job.id]);
    assert.deepEqual(await group.connectInfo(job.id), job.info);
  }

  const logged = (pattern: RegExp): Promise<true> =>
    waitFor(async () => (pattern.test(daemon.log()) ? true : undefined), {
      timeoutMs: TIMEOUT_MS,
      intervalMs: 20,
      what: `${pattern} in the log`,
    });
  /** How often it was said. */
  const countLogged = (pattern: RegExp): number =>
    daemon
      .log()
      .split("\n")
      .filter((line) => pattern.test(line)).length;
  const recordPath = (id: string): string => join(world.stateDirectory, "vms", id, "record.json");

  /** Whether another job can begin and end. */
  async function servesAnotherJob(): Promise<void> {
    assert.equal(await group.increase(1), 1);
    const other = await waitFor(async () => (await group.running()).find((id) => id !== job.id), {
      timeoutMs: TIMEOUT_MS,
      intervalMs: 10,
      what: "another instance",
    });
    await group.decrease([other]);
    await waitFor(async () => ((await group.list()).length === 1 ? true : undefined), {
      timeoutMs: TIMEOUT_MS,
      intervalMs: 10,
      what: "its end",
    });
    await daemon.untilWarm(STAND_IN_POOL, 1);
    await world.assertOnly(async () => (await daemon.status()).instances);
  }

  const damages: ReadonlyArray<[what: string, damage: (text: string) => string, sentence: RegExp]> = [
    [
      "a record that was cut off",
      (text) => text.slice(0, 100),
      /could not be read and is left alone.*it is not JSON/,
    ],
    [
      "a record of a newer version",
      (text) => JSON.stringify({ ...JSON.parse(text), version: 99, news: true }),
      /could not be read and is left alone.*a newer fleetingd wrote it \(record version 99;.*install that version again/,
    ],
    [
      "a record that describes no VM",
      (text) => JSON.stringify({ ...JSON.parse(text), data: { slot: "none" } }),
      /could not be read and is left alone.*does not describe a local VM/,
    ],
  ];
  for (const [what, damage, sentence] of damages) {
    test(`${what} costs nothing, and with it its VM comes back`, async () => {
      await kill();
      const before = await world.inspect();
      const text = await readFile(recordPath(job.id), "utf8");
      await writeFile(recordPath(job.id), damage(text));
      await start();
      assert.equal(countLogged(sentence), 1, daemon.log());
      assert.deepEqual(await group.list(), []);
      assert.equal((await job.login.exec("hostname", TIMEOUT_MS)).stdout.trim(), job.id);
      // Neither it nor what it stands for is touched, and its network is nobody else's.
      assert.equal(await readFile(recordPath(job.id), "utf8"), damage(text));
      assert.deepEqual(await world.inspect(), before);
      assert.equal(await group.increase(1), 1);
      await daemon.untilWarm(STAND_IN_POOL, 1);
      await group.decrease(await group.running());
      await waitFor(async () => ((await group.list()).length === 0 ? true : undefined), {
        timeoutMs: TIMEOUT_MS,
        intervalMs: 10,
        what: "the other one's end",
      });

      await kill();
      await writeFile(recordPath(job.id), text);
      await start();
      await jobGoesOn();
      await servesAnotherJob();
    });
  }

  test("a copy of a record's folder ends nothing, and what lies beside the folders is left alone", async () => {
    await kill();
    const strange = ["copy", "fl-copy", "notes.txt", "backup"].map((name) =>
      join(world.stateDirectory, "vms", name),
    );
    const [copy = "", second = "", notes = "", backup = ""] = strange;
    const own = join(world.stateDirectory, "vms", job.id);
    const filter = (path: string): boolean => !path.endsWith(".sock");
    for (const path of [copy, second]) await cp(own, path, { recursive: true, filter });
    await writeFile(notes, "mine");
    await mkdir(backup);
    await start();
    await logged(
      new RegExp(`could not be read and is left alone.*it is the record of ${job.id}, and not of`),
    );
    await jobGoesOn();
    await kill();
    for (const path of [copy, second]) await rm(path, { recursive: true });
    await start();
    await jobGoesOn();
    for (const path of [notes, backup]) assert.ok(await exists(path), path);
    for (const path of [notes, backup]) await rm(path, { recursive: true });
    await servesAnotherJob();
  });

  test("a second daemon is refused, whatever it has in common with the first", async () => {
    const config = await readFile(join(world.folder, "config.toml"), "utf8");
    const second = async (changes: (text: string) => string): Promise<string> => {
      const path = join(world.folder, "second.toml");
      await writeFile(path, changes(config));
      const { exitCode, all } = await execa(FLEETINGD, ["--config", path, "serve"], {
        all: true,
        reject: false,
      });
      assert.equal(exitCode, 1, all);
      return all;
    };
    assert.match(
      await second((text) => text),
      /another daemon is listening on .*daemon\.sock\. Stop it first/,
    );
    assert.match(
      await second((text) => text.replace("daemon.sock", "second.sock")),
      /another daemon \(pid \d+\) works on the state directory .*\/state\. Stop it first/,
    );
    assert.match(
      await second((text) => text.replace("daemon.sock", "second.sock").replace("/state", "/second-state")),
      /another daemon \(pid \d+\) looks after the VMs' network on this host\. Stop it first/,
    );
    await jobGoesOn();
    await servesAnotherJob();
  });

  test("a clock that is set back by a day changes nothing but ages", async () => {
    const preload = ["clock.mjs"];
    const env = { FLEETINGD_CLOCK_SHIFT_MS: String(-DAY_MS) };
    await kill();
    await start({ preload, env });
    daemon.process.kill("SIGUSR2");
    await logged(/the host's clock was set back by 864\d\d s/);
    await jobGoesOn();
    await servesAnotherJob();
    assert.ok((await daemon.status()).instances.every(({ ageSeconds }) => ageSeconds >= 0));
    // The next one finds records of a day that has not come yet, and then the right time again.
    for (const shift of [env, {}]) {
      await kill();
      await start({ preload, env: shift });
      await jobGoesOn();
      await servesAnotherJob();
    }
  });

  test("a state directory that is removed is made again", async () => {
    await rm(world.stateDirectory, { recursive: true });
    await logged(/records were gone from the state directory and are written again/);
    await waitFor(async () => ((await exists(recordPath(job.id))) ? true : undefined), {
      timeoutMs: TIMEOUT_MS,
      intervalMs: 10,
      what: "the record",
    });
    await jobGoesOn();
    await servesAnotherJob();
    assert.equal(countLogged(/records were gone/), 1);
    await kill();
    await start();
    await jobGoesOn();
    await servesAnotherJob();
  });

  test("a file in place of the records ends nothing, refuses claims and a start with a sentence, and nothing is lost", async () => {
    const records = join(world.stateDirectory, "vms");
    await rename(records, `${records}.away`);
    await writeFile(records, "not a folder");
    await logged(/records could not be written again.*ENOTDIR/);
    assert.equal(await group.increase(1), 0);
    assert.match(daemon.log(), /accepted fewer instances than asked for.*could not be written: ENOTDIR/);
    await jobGoesOn();
    await kill();
    await assert.rejects(start(), /the records in \S+\/vms can't be read: ENOTDIR.* It must be a folder/);
    await rm(records);
    await rename(`${records}.away`, records);
    await start();
    await jobGoesOn();
    await servesAnotherJob();
  });

  test("a disk that is full refuses claims with a sentence, and is forgotten when it has room", async () => {
    await world.fillDisk();
    const instances = (await daemon.status()).instances.map(({ id }) => id);
    assert.equal(await group.increase(2), 0);
    assert.match(
      daemon.log(),
      /the disk is full: no room for the record of fl-\S+ in .*\/vms\. Free some space/,
    );
    await jobGoesOn();
    assert.deepEqual(
      (await daemon.status()).instances.map(({ id }) => id),
      instances,
      "nothing is lost, and nothing half-made",
    );
    await world.assertOnly(async () => (await daemon.status()).instances);
    // An end needs no room.
    const warm = instances.find((id) => id !== job.id) ?? "";
    process.kill(await pidOf(warm), "SIGKILL");
    await logged(new RegExp(`an instance is gone .*${warm}`));
    await waitFor(async () => (await daemon.status()).pools[0]?.lastError ?? undefined, {
      timeoutMs: TIMEOUT_MS,
      intervalMs: 20,
      what: "the reason in status",
    });
    await kill();
    await start();
    await jobGoesOn();
    await world.makeRoom();
    await waitFor(async () => ((await daemon.status()).pools[0]?.warm.actual === 1 ? true : undefined), {
      timeoutMs: TIMEOUT_MS,
      intervalMs: 20,
      what: "a warm instance",
    });
    await servesAnotherJob();
    await kill();
    await start();
    await jobGoesOn();
  });

  /** The process that the record of a VM names. */
  async function pidOf(id: string): Promise<number> {
    const { data } = JSON.parse(await readFile(recordPath(id), "utf8")) as {
      data: { process: { pid: number } };
    };
    return data.process.pid;
  }
});
