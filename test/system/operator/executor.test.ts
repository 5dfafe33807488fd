/** The custom executor, called as GitLab Runner calls it: a process for each stage, which know of each other only by the job's number. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { execa } from "execa";
import { exists } from "../../../src/host/files.ts";
import { waitFor } from "../../../src/host/wait.ts";
import { FLEETINGD, type TestDaemon } from "../../helpers/daemon.ts";
import { needsNamespace } from "../../helpers/namespace.ts";
import { createStandInWorld, STAND_IN_POOL, type StandInWorld } from "../../helpers/stand-in-world.ts";
import { failOnLeaks } from "../../helpers/suite.ts";

failOnLeaks();

const TIMEOUT_MS = 60_000;
const BUILD_FAILURE = 91;
const SYSTEM_FAILURE = 92;

describe("the custom executor", { skip: needsNamespace() }, () => {
  let world: StandInWorld;
  let daemon: TestDaemon;

  before(async () => {
    world = await createStandInWorld();
    daemon = await world.start({ pool: { warm_instances: 1, max_instances: 2 } });
    await daemon.untilWarm(STAND_IN_POOL, 1);
  });
  after(async () => {
    assert.equal(await daemon.stop(), true);
    await world.remove();
  });

  const executor = (env: Record<string, string>, ...words: string[]) =>
    execa(FLEETINGD, ["--config", join(daemon.directory, "config.toml"), "executor", ...words], {
      reject: false,
      // The runner's own input is not the job's.
      input: "of the runner",
      env,
    });
  const byHand = (...words: string[]) => executor({}, ...words);
  const inJob = (id: number, more: Record<string, string> = {}) => {
    const env = {
      CUSTOM_ENV_CI_JOB_ID: String(id),
      CUSTOM_ENV_CI_PROJECT_NAME: "a project",
      CUSTOM_ENV_DISTRO: STAND_IN_POOL,
      BUILD_FAILURE_EXIT_CODE: String(BUILD_FAILURE),
      SYSTEM_FAILURE_EXIT_CODE: String(SYSTEM_FAILURE),
      ...more,
    };
    return (...words: string[]) => executor(env, ...words);
  };
  const until = (what: string, holds: () => Promise<boolean>): Promise<true> =>
    waitFor(async () => ((await holds()) ? true : undefined), {
      timeoutMs: TIMEOUT_MS,
      intervalMs: 50,
      what,
    });
  const script = async (text: string): Promise<string> => {
    const path = join(world.folder, "script");
    await writeFile(path, text, { mode: 0o600 });
    return path;
  };
  const idsOf = async (machine: string): Promise<string[]> =>
    (await daemon.status()).instances
      .filter(({ group, state }) => group === `${STAND_IN_POOL}/${machine}` && state === "ready")
      .map(({ id }) => id);

  test("runs a job from config to cleanup, and the machine is gone", async () => {
    const job = inJob(4711);
    const { stdout } = await job("config", "--builds-dir", "/home/ci/builds");
    const { driver, builds_dir: buildsDir } = JSON.parse(stdout);
    assert.deepEqual([driver.name, buildsDir], ["fleetingd", "/home/ci/builds"]);

    const prepared = await job("prepare");
    assert.equal(prepared.exitCode, 0, prepared.stderr);
    const [id = ""] = await idsOf("job-4711");
    assert.match(
      prepared.stdout,
      new RegExp(`^The machine job-4711 is ${id} of the pool ci: \\w+@172\\.16\\.`),
    );
    assert.equal((await job("prepare")).exitCode, 0);
    assert.deepEqual(await idsOf("job-4711"), [id], "the runner tries again, and gets the same");

    const path = await script(
      `echo "stage $1, $2"; cat; echo to stderr >&2; [ ! -e "$0" ] || stat -c %a "$0"`,
    );
    const ran = await job("run", "--script", path, "build_script", "it's $HOME");
    assert.equal(ran.exitCode, 0, ran.stderr);
    assert.equal(ran.stdout, "stage build_script, it's $HOME\n600");
    assert.equal(ran.stderr, "to stderr");

    assert.equal((await job("cleanup")).exitCode, 0);
    await until("the end of the machine", async () => (await idsOf("job-4711")).length === 0);
    assert.equal((await job("cleanup")).exitCode, 0, "the runner cleans up whatever happened before");
  });

  test("tells a failed job from a broken system", async () => {
    const codeFile = join(world.folder, "code");
    const job = inJob(4712, { BUILD_EXIT_CODE_FILE: codeFile });
    const missing = await job("run", "--script", await script("true"), "build_script");
    assert.equal(missing.exitCode, SYSTEM_FAILURE);
    assert.match(missing.stderr, /there is no machine job-4712/);
    assert.equal((await job("prepare")).exitCode, 0);
    assert.equal(
      (await job("run", "--script", await script("exit 7"), "build_script")).exitCode,
      BUILD_FAILURE,
    );
    assert.equal(await readFile(codeFile, "utf8"), "7");
    const unreadable = await job("run", "--script", "/nowhere/script", "build_script");
    assert.deepEqual(
      [unreadable.exitCode, /\/nowhere\/script/.test(unreadable.stderr)],
      [SYSTEM_FAILURE, true],
    );
    assert.equal((await job("cleanup")).exitCode, 0);
  });

  test("names the pools that there are where the job wants another", async () => {
    const result = await inJob(4713, { CUSTOM_ENV_DISTRO: "plan9" })("prepare");
    assert.equal(result.exitCode, SYSTEM_FAILURE);
    assert.match(
      result.stderr,
      /no pool and no image "plan9".*DISTRO, or --distro, names one of: ci \(image \w+\)/s,
    );
  });

  test("waits for its turn where the pool is full", async () => {
    const [first, second, third] = [inJob(1), inJob(2), inJob(3)];
    assert.deepEqual(
      (await Promise.all([first("prepare"), second("prepare")])).map(({ exitCode }) => exitCode),
      [0, 0],
    );
    assert.notDeepEqual(await idsOf("job-1"), await idsOf("job-2"));
    const tooLate = await third("prepare", "--timeout", "1");
    assert.equal(tooLate.exitCode, SYSTEM_FAILURE);
    assert.match(tooLate.stderr, /the machine has to wait: .*there was no machine in time/s);
    const waiting = third("prepare");
    assert.equal((await first("cleanup")).exitCode, 0);
    assert.equal((await waiting).exitCode, 0);
    for (const job of [second, third]) assert.equal((await job("cleanup")).exitCode, 0);
  });

  test("gives a person a machine by hand", async () => {
    const { stdout, exitCode } = await byHand("prepare", "--distro", STAND_IN_POOL);
    assert.equal(exitCode, 0);
    const machine = /--machine (by-hand-\w+)/.exec(stdout)?.[1] ?? "";
    const ran = await byHand("run", "--machine", machine, "sh", "-c", "'cat; exit 3'");
    assert.deepEqual([ran.stdout, ran.exitCode], ["of the runner", 3]);
    assert.equal((await byHand("cleanup", "--machine", machine)).exitCode, 0);
    const nameless = await byHand("cleanup");
    assert.match(nameless.stderr, /Name it with --machine/);
    assert.equal(nameless.exitCode, 1);
    const odd = await byHand("prepare", "--machine", "no name");
    assert.match(odd.stderr, /"no name" can't be the name of a machine/);
  });

  test("goes on with a job while the daemon is restarted", async () => {
    const job = inJob(4714);
    assert.equal((await job("prepare")).exitCode, 0);
    const ids = await idsOf("job-4714");
    const begun = join(world.folder, "begun");
    const go = join(world.folder, "go");
    const path = await script(`touch "${begun}"; while [ ! -e "${go}" ]; do sleep 0.1; done; echo done`);
    const running = job("run", "--script", path, "build_script");
    await until("the script", () => exists(begun));
    const ended = once(daemon.process, "exit");
    daemon.process.kill("SIGKILL");
    await ended;
    daemon = await world.start({ pool: { warm_instances: 1, max_instances: 2 }, ephemeral: true });
    await until("the machine", async () => (await idsOf("job-4714")).join() === ids.join());
    await writeFile(go, "");
    const { stdout, exitCode } = await running;
    assert.deepEqual([stdout, exitCode], ["done", 0]);
    assert.equal((await job("cleanup")).exitCode, 0);
  });

  test("gives the machine of a stage that was killed to the next", async () => {
    const job = inJob(4715);
    assert.equal((await job("prepare")).exitCode, 0);
    const begun = join(world.folder, "begun-too");
    const running = job(
      "run",
      "--script",
      await script(`touch "${begun}"; while [ -e "${begun}" ]; do sleep 0.1; done`),
      "build_script",
    );
    await until("the script", () => exists(begun));
    running.kill("SIGKILL");
    await running;
    await rm(begun);
    assert.equal((await job("run", "--script", await script("true"), "after_script")).exitCode, 0);
    assert.equal((await job("cleanup")).exitCode, 0);
  });
});
