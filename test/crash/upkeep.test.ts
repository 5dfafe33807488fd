/** What a daemon looks after by itself: systemd's watchdog, the host's memory, and idle VMs that are old or full. Stand-ins for VMs. */
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, afterEach, before, describe, test } from "node:test";
import { execa } from "execa";
import { removeTree } from "../../src/host/files.ts";
import { run } from "../../src/host/run.ts";
import { waitFor } from "../../src/host/wait.ts";
import { FLEETINGD, type TestDaemon } from "../helpers/daemon.ts";
import { attachGroup } from "../helpers/group-client.ts";
import { needsNamespace, needsPrograms } from "../helpers/namespace.ts";
import {
  createStandInWorld,
  STAND_IN_POOL,
  type StandInWorld,
  type StartOptions,
} from "../helpers/stand-in-world.ts";
import { failOnLeaks } from "../helpers/suite.ts";

failOnLeaks();

const TIMEOUT_MS = 60_000;
const WATCHDOG_USEC = 600_000;
/** Prints each datagram that arrives, after the word that it listens. */
const RECEIVER = `
  use IO::Socket::UNIX; use Socket; $| = 1;
  my $socket = IO::Socket::UNIX->new(Type => SOCK_DGRAM, Local => $ARGV[0]) or die "no socket: $!";
  print "listening\\n"; while (defined $socket->recv(my $text, 4096)) { print "$text\\n"; }
`;
const MEMINFO = "/proc/meminfo";
const PRESSURE = "/proc/pressure/memory";

describe("a daemon that is left alone", { skip: needsNamespace() }, async () => {
  let world: StandInWorld;
  let daemon: TestDaemon;
  let receiver: ChildProcess | undefined;
  let mounted: string[] = [];

  before(async () => {
    world = await createStandInWorld();
  });
  after(() => world.remove());

  async function start(options: StartOptions): Promise<void> {
    daemon = await world.start({ ...options, ephemeral: true });
  }

  afterEach(async () => {
    for (const path of mounted) await run("umount", [path]);
    mounted = [];
    assert.ok(await daemon.stop(), daemon.log());
    receiver?.kill();
    receiver = undefined;
    await world.assertOnly(async () => []);
    await removeTree(world.stateDirectory);
  });

  const eventually = (what: string, condition: () => boolean | Promise<boolean>): Promise<true> =>
    waitFor(async () => ((await condition()) ? true : undefined), {
      timeoutMs: TIMEOUT_MS,
      intervalMs: 10,
      what,
    });
  const countLogged = (pattern: RegExp): number => daemon.log().split(pattern).length - 1;
  const idle = async (): Promise<string[]> =>
    (await daemon.status()).instances.filter(({ state }) => state === "ready").map(({ id }) => id);

  test("feeds systemd's watchdog while its driver makes progress, and tells of a reload", {
    skip: await needsPrograms("systemd-notify", "perl"),
  }, async () => {
    const socket = join(world.folder, "notify");
    const listener = spawn("perl", ["-e", RECEIVER, socket], { stdio: ["ignore", "pipe", "inherit"] });
    receiver = listener;
    let told = "";
    listener.stdout.on("data", (text) => (told += String(text)));
    await once(listener.stdout, "data");
    const pings = (): number => told.split("WATCHDOG=1\n").length - 1;
    const env = { NOTIFY_SOCKET: socket, WATCHDOG_USEC: String(WATCHDOG_USEC) };
    await start({ preload: ["hanging-disk.mjs"], env, pool: { warm_instances: 1 } });
    await eventually("to be ready", () => told.includes("READY=1\n"));
    await eventually("to be fed", () => pings() >= 3);

    const config = join(world.folder, "config.toml");
    const text = await readFile(config, "utf8");
    for (const [content, said] of [
      [text, "the configuration was read again"],
      ["no = configuration", "the earlier one holds"],
    ] as const) {
      told = "";
      await writeFile(config, content);
      daemon.process.kill("SIGHUP");
      await eventually("the end of the reload", () => told.includes("READY=1\n"));
      assert.match(told.replaceAll("WATCHDOG=1\n", ""), /^RELOADING=1\nMONOTONIC_USEC=\d+\nREADY=1\n$/);
      assert.match(daemon.log(), new RegExp(said));
    }

    await daemon.untilWarm(STAND_IN_POOL, 1);
    daemon.process.kill("SIGUSR2");
    const unanswered = /systemd's watchdog is not answered .*nothing was planned for \d+ s/;
    let [fed, seen] = [pings(), 0];
    await eventually("a hang in which it is not fed", () => {
      // What was on its way when it began arrives by a process and a pipe.
      if (pings() !== fed) [fed, seen] = [pings(), countLogged(unanswered)];
      return countLogged(unanswered) >= seen + 5;
    });
    const stopped = daemon.stop();
    await eventually("to be told of the end", () => told.includes("STOPPING=1\n"));
    assert.ok(await stopped);
  });

  /** Lets a file of the kernel's say something else, in the suite's own namespace. */
  async function pretend(path: string, text: string): Promise<(text: string) => Promise<void>> {
    const file = join(world.folder, path.replaceAll("/", "-"));
    await writeFile(file, text);
    await run("mount", ["--bind", file, path]);
    mounted.push(path);
    return (next) => writeFile(file, next);
  }

  test("makes no VM while the host is short of memory, says why, and goes on by itself", async () => {
    const { [MEMINFO]: meminfo = "", [PRESSURE]: pressure = "" } = Object.fromEntries(
      await Promise.all([MEMINFO, PRESSURE].map(async (path) => [path, await readFile(path, "utf8")])),
    ) as Record<string, string>;
    const setMemory = await pretend(MEMINFO, meminfo);
    const setPressure = await pretend(PRESSURE, pressure);
    await start({ pool: { warm_instances: 1, max_instances: 4 }, settings: { memory_reserve_mb: 64 } });
    await daemon.untilWarm(STAND_IN_POOL, 1);
    const group = await attachGroup(daemon.client, { pool: STAND_IN_POOL, group: "g" });
    const shortages = [
      {
        begin: () => setMemory(meminfo.replace(/(MemAvailable: +)\d+/, "$130720")),
        end: () => setMemory(meminfo),
        reason: /the host has only 30 MiB of memory available \(memory_reserve_mb = 64\)/,
      },
      {
        begin: () => setPressure(pressure.replace(/some avg10=[\d.]+/, "some avg10=73.20")),
        end: () => setPressure(pressure),
        reason: /the host is short of memory: 73 % of the time .*\(memory_pressure_limit_percent = 40\)/,
      },
    ];
    for (const { begin, end, reason } of shortages) {
      await begin();
      await eventually("the shortage", async () =>
        reason.test((await daemon.status()).pools[0]?.lastError ?? ""),
      );
      // The one that is warm is given out all the same; nothing takes its place.
      const before = await idle();
      assert.equal(await group.increase(1), 1);
      assert.equal(await group.increase(1), 0);
      assert.match(daemon.log(), reason);
      const { stdout } = await execa(FLEETINGD, ["--config", join(world.folder, "config.toml"), "why"]);
      assert.match(stdout, reason);
      assert.deepEqual(await idle(), before);
      await end();
      await eventually("another one", async () => (await idle()).some((id) => !before.includes(id)));
    }
    group.detach();
  });

  test("replaces idle VMs that have waited too long, and always has as many as it should", async () => {
    const warm = 2;
    await start({ pool: { warm_instances: warm, max_instances: 4, max_idle_age: "1s" } });
    await daemon.untilWarm(STAND_IN_POOL, warm);
    const first = await idle();
    const seen = new Set(first);
    await eventually("all of them to be replaced twice", async () => {
      const now = await idle();
      assert.ok(now.length >= warm, `${now.length} are left:\n${daemon.log()}`);
      for (const id of now) seen.add(id);
      return seen.size >= 3 * warm && first.every((id) => !now.includes(id));
    });
  });

  test("reports a VM whose disk is full, and replaces it", async () => {
    await world.programs.setFault("hypervisor", "full");
    await start({ pool: { warm_instances: 1, heartbeat_timeout: "4s" } });
    await daemon.untilWarm(STAND_IN_POOL, 1);
    const [full = ""] = await idle();
    await world.programs.setFault("hypervisor", undefined);
    await eventually("another one in its place", async () => {
      const [now] = await idle();
      return now !== undefined && now !== full;
    });
    assert.match(
      daemon.log(),
      new RegExp(`jobs on an instance would fail .*${full}.*its disk is full.*replaced=true`),
    );
    const { stdout } = await execa(FLEETINGD, ["--config", join(world.folder, "config.toml"), "events"]);
    assert.match(stdout, new RegExp(`${full}.*its disk is full`));
  });
});
