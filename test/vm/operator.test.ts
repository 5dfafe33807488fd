/** What an operator sees of a real VM, from its boot to its end, and the custom executor's job in it: every command, by hand. */
import assert from "node:assert/strict";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { execa } from "execa";
import { logEntrySchema, loggedEventSchema, timelineSchema } from "../../src/api/events.ts";
import { gcReportSchema, imageListSchema } from "../../src/api/images.ts";
import { instancesSchema, statusSchema, whySchema } from "../../src/api/status.ts";
import { reportSchema } from "../../src/doctor/finding.ts";
import { waitFor } from "../../src/host/wait.ts";
import type { LogLevel } from "../../src/log.ts";
import { recordSchema } from "../../src/pool/instance.ts";
import { commandLineOf, parseExactly } from "../helpers/command-line.ts";
import { poolToml, startTestDaemon, type TestDaemon } from "../helpers/daemon.ts";
import { needsNamespace } from "../helpers/namespace.ts";
import {
  bodiesAt,
  type OtlpReceiver,
  spansIn,
  startOtlpReceiver,
  textsOf,
} from "../helpers/otlp-receiver.ts";
import { failOnLeaks } from "../helpers/suite.ts";
import { openTerminal, type Terminal } from "../helpers/terminal.ts";

const TIMEOUT_MS = 5 * 60_000;
const SIZE = { columns: 100, rows: 30 };
const TRACES = "/v1/traces";
const BUILD_FAILURE = 91;
const SYSTEM_FAILURE = 92;
/** What systemd reads before each line; see sd-daemon(3). */
const PRIORITIES: Readonly<Record<LogLevel, number>> = { error: 3, warn: 4, info: 6, debug: 7 };

failOnLeaks();

describe("an operator and a real VM", { skip: needsNamespace() }, () => {
  let receiver: OtlpReceiver;
  let daemon: TestDaemon;
  let id: string;
  let key: string;
  /** All that happens, as `events --follow --json` tells it. */
  let events = "";
  let following: PromiseLike<unknown>;
  const terminals: Terminal[] = [];

  before(async () => {
    receiver = await startOtlpReceiver();
    daemon = await startTestDaemon({
      // It boots, whether there is a snapshot or not.
      pools: poolToml("default", { warm_instances: 1, max_instances: 1, clone_mode: "boot" }),
      settings: { log_format: "journald" },
      env: {
        OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: `${receiver.endpoint}${TRACES}`,
        OTEL_EXPORTER_OTLP_PROTOCOL: "http/json",
        OTEL_BSP_SCHEDULE_DELAY: "100",
      },
    });
    const [program = "", ...args] = words("events", "--follow", "--json");
    const follower = execa(program, args, { reject: false });
    follower.stdout.on("data", (data) => (events += String(data)));
    following = follower;
    await daemon.prebuild("default");
    await daemon.untilWarm("default", 1);
    id = (await daemon.status()).instances[0]?.id ?? assert.fail("there is no VM");
    const record = await readFile(join(daemon.directory, "vms", id, "record.json"), "utf8");
    key = recordSchema.parse(JSON.parse(record)).connectInfo?.privateKey ?? assert.fail("it has no key");
  });
  after(async () => {
    for (const terminal of terminals) await terminal.close();
    const endedWell = await daemon?.stop();
    // It ends with its daemon.
    await following;
    receiver?.close();
    assert.ok(endedWell, daemon?.log());
  });

  const words = (...command: string[]): string[] => commandLineOf(daemon).words(...command);
  const cli = (...command: string[]): Promise<string> => commandLineOf(daemon).output(...command);
  const open = async (...command: string[]): Promise<Terminal> => {
    const terminal = await openTerminal(words(...command), SIZE);
    terminals.push(terminal);
    return terminal;
  };
  const eventually = <T>(what: string, probe: () => Promise<T | undefined>): Promise<T> =>
    waitFor(probe, { timeoutMs: TIMEOUT_MS, intervalMs: 50, what });
  const logged = (pattern: RegExp): Promise<true> =>
    eventually(`a log line that matches ${pattern}`, async () => pattern.test(daemon.log()) || undefined);

  test("sees it in status, ps, why, images and top", async () => {
    const { instances, pools } = parseExactly(statusSchema, await cli("status", "--json"));
    assert.deepEqual([pools[0]?.warm, pools[0]?.why], [{ desired: 1, actual: 1 }, null]);
    assert.deepEqual(
      instances.map((one) => [one.id, one.state, one.snapshot]),
      [[id, "ready", null]],
    );
    assert.match(
      await cli("status"),
      new RegExp(`^hypervisor QEMU [\\s\\S]*^${id} +default +warm +\\d+`, "m"),
    );
    assert.deepEqual(
      parseExactly(instancesSchema, await cli("ps", "--json")).instances.map((one) => one.id),
      [id],
    );
    assert.match(await cli("ps"), new RegExp(`^${id} +default +warm +.* 172\\.16\\.120\\.\\d+`, "m"));
    assert.match(await cli("why"), /^default: 1 of 1 warm VMs .*as it should be\.$/);
    assert.equal(parseExactly(whySchema, await cli("why", "--json")).pools[0]?.why, null);
    const { images } = parseExactly(imageListSchema, await cli("images", "--json"));
    assert.equal(images.find(({ kind, current }) => kind === "golden" && current)?.vms, 1);
    const top = await open("top", "--interval", "0.2");
    await top.untilShows(new RegExp(`^${id} +default +warm`, "m"));
    await top.press("q");
    await top.untilShows(/^ended> ?$/m);
  });

  test("has the host examined and its images looked through beside it", async () => {
    const ask = async (...command: string[]) => {
      const [program = "", ...args] = words(...command);
      return execa(program, args, { reject: false });
    };
    const { stdout, exitCode } = await ask("doctor", "--json", "--runner-config", "/nowhere");
    const { verdict, findings } = parseExactly(reportSchema, stdout);
    assert.equal(exitCode, { ok: 0, warn: 1, fail: 2 }[verdict]);
    const wellIn = (area: string): string[] =>
      findings.flatMap((one) => (one.area === area && one.verdict === "ok" ? [one.message] : []));
    for (const area of ["configuration", "programs", "nftables", "pools", "image", "daemon"])
      assert.ok(wellIn(area).length > 0, `${area}: ${stdout}`);
    // The directory is other tests' as well: their images must stay, and clones that they left keep it from being looked at.
    const collected = await ask("gc", "--dry-run", "--json");
    const { dryRun, directories } = parseExactly(gcReportSchema, collected.stdout);
    assert.deepEqual([dryRun, directories.length], [true, 1]);
    assert.equal(collected.exitCode, directories[0]?.skipped === null ? 0 : 1);
    const { goldenImage } = (await daemon.status()).instances[0] ?? assert.fail("there is no VM");
    const doomed = directories.flatMap(({ removed }) => removed.map(({ path }) => path));
    assert.ok(goldenImage !== null && !doomed.some((path) => path.includes(goldenImage)), doomed.join());
  });

  test("reads what its kernel complains of, and what it prints", async () => {
    await cli("ssh", id, "--", "echo '<3>an odd machine' | sudo tee /dev/kmsg");
    assert.match(await cli("console", id), /\] an odd machine$/m);
    const terminal = await open("console", "--follow", id);
    await terminal.untilShows(/an odd machine/);
    await cli("ssh", id, "--", "echo $((6 * 7)) of them | sudo tee /dev/console");
    await terminal.untilShows(/42 of them/);
    await terminal.press("C-c");
    await terminal.untilShows(/^ended> ?$/m);
  });

  test("runs a command in it, and gets its output and its exit code", async () => {
    assert.equal(await cli("ssh", id, "hostname"), id);
    await assert.rejects(cli("ssh", id, "--", "echo out; echo err >&2; exit 7"), {
      ...{ exitCode: 7, stdout: "out", stderr: "err" },
    });
    const [program = "", ...args] = words("ssh", id, "--", "wc", "-c");
    assert.equal((await execa(program, args, { input: "x".repeat(100_000) })).stdout, "100000");
  });

  test("works in a shell of it, which has the terminal's type and size, and its keys", async () => {
    const terminal = await open("ssh", id);
    await terminal.untilShows(new RegExp(`^ubuntu@${id}:~\\$`, "m"));
    await terminal.press('echo "$TERM on $(tty)"; stty size', "Enter");
    await terminal.untilShows(/^(?:tmux|screen)\S* on \/dev\/pts\/\d+\n\d+ 100$/m);
    await terminal.resize(120, 40);
    await terminal.press("clear; stty size", "Enter");
    await terminal.untilShows(/^\d+ 120$/m);
    // Not ours to end: it is the command's there.
    await terminal.press("sleep 1000", "Enter");
    await terminal.untilShows(/sleep 1000$/m);
    await terminal.press("C-c");
    await terminal.untilShows(/\^C/);
    await terminal.press("exit 3", "Enter");
    await terminal.untilShows(/^ended> ?$/m);
    await terminal.press("echo code $?", "Enter");
    await terminal.untilShows(/^code 3$/m);
  });

  describe("with the runner's custom executor", () => {
    const job = {
      CUSTOM_ENV_CI_JOB_ID: "4711",
      CUSTOM_ENV_CI_PROJECT_NAME: "a project",
      CUSTOM_ENV_DISTRO: "default",
      BUILD_FAILURE_EXIT_CODE: String(BUILD_FAILURE),
      SYSTEM_FAILURE_EXIT_CODE: String(SYSTEM_FAILURE),
    };
    const executor = (stage: string, ...args: string[]) => {
      const [program = "", ...rest] = words("executor", stage, ...args);
      const env = { ...job, BUILD_EXIT_CODE_FILE: join(daemon.directory, "exit-code") };
      return execa(program, rest, { env, reject: false, input: "of the runner", timeout: TIMEOUT_MS });
    };
    const run = async (script: string) => {
      const path = join(daemon.directory, "script");
      await writeFile(path, `#!/usr/bin/env bash\nset -eo pipefail\n${script}\n`, { mode: 0o600 });
      return executor("run", "--script", path, "build_script");
    };

    test("gives a job the VM, and runs its scripts there", async () => {
      assert.equal(JSON.parse((await executor("config")).stdout).driver.name, "fleetingd");
      const prepared = await executor("prepare");
      assert.equal(prepared.exitCode, 0, prepared.stderr);
      assert.match(
        prepared.stdout,
        new RegExp(`^The machine job-4711 is ${id} of the pool default: ubuntu@`),
      );
      const ran = await run('echo "$1 on $(hostname)"; sudo -n id -un; cat; echo to stderr >&2');
      assert.equal(ran.exitCode, 0, ran.stderr);
      assert.deepEqual([ran.stdout, ran.stderr], [`build_script on ${id}\nroot`, "to stderr"]);
      assert.match(await cli("ps"), new RegExp(`^${id} +default +in use .* default/job-4711`, "m"));
    });

    test("tells a script that fails from a connection that is lost", async () => {
      const failed = await run("false; echo never");
      assert.deepEqual([failed.exitCode, failed.stdout], [BUILD_FAILURE, ""]);
      assert.equal(await readFile(join(daemon.directory, "exit-code"), "utf8"), "1");
      const lost = await run("sudo -n pkill -KILL -x sshd; sleep 1000");
      assert.equal(lost.exitCode, SYSTEM_FAILURE);
      assert.match(lost.stderr, /the SSH connection .*(closed|failed)/);
      const again = await eventually("sshd to be there again", async () => {
        const result = await run("true");
        return result.exitCode === SYSTEM_FAILURE ? undefined : result;
      });
      assert.equal(again.exitCode, 0, again.stderr);
    });

    test("gives it back, which ends it", async () => {
      const terminal = await open("console", "--follow", id);
      await terminal.untilShows(/42 of them/);
      assert.equal((await executor("cleanup")).exitCode, 0);
      await eventually("its end", async () => !(await cli("ps")).includes(id) || undefined);
      await terminal.untilShows(/^ended> ?$/m);
      await assert.rejects(cli("ssh", id, "true"), { exitCode: 1, stderr: /there is no instance/ });
    });
  });

  test("has another one removed that nobody has asked for", async () => {
    const next = await eventually("the next one", async () => (await daemon.status()).instances[0]?.id);
    assert.equal(await cli("remove", next), `${next} is being removed.`);
    await eventually("its end", async () => !(await cli("ps")).includes(next) || undefined);
    const { outcome } = parseExactly(timelineSchema, await cli("explain", next, "--json"));
    assert.equal(outcome, "It is gone: somebody removed it by the daemon's socket.");
    await assert.rejects(cli("remove", next), { exitCode: 1, stderr: /there is no instance .*fleetingd ps/ });
  });

  test("is told its life, by explain, events and logs", async () => {
    const { state, outcome, steps } = parseExactly(timelineSchema, await cli("explain", id, "--json"));
    assert.equal(state, "gone");
    assert.match(outcome, /the runner gave it back/);
    const made = steps.flatMap(({ what }) => /^made: (.*)/.exec(what)?.[1] ?? []);
    assert.deepEqual(made, ["image", "clone", "boot", "ready"]);
    assert.match(await cli("explain", id), /claimed by default\/job-4711: it was warm/);
    const own = (await cli("events", id, "--json")).split("\n");
    const kinds = own.map((line) => parseExactly(loggedEventSchema, line).kind);
    for (const kind of ["creating", "ready", "claimed", "ending", "deleted"] as const)
      assert.ok(kinds.includes(kind), kind);
    await eventually("the same from who has followed", async () =>
      own.every((line) => events.includes(line)) ? true : undefined,
    );
    const lines = (await cli("logs", id, "--json"))
      .split("\n")
      .map((line) => parseExactly(logEntrySchema, line));
    assert.ok(lines.every(({ fields }) => fields["instance"] === id));
    assert.ok(lines.some(({ fields }) => fields["stage"] === "DELETE"));
  });

  test("has its life as a trace, too, where OpenTelemetry's variables say", async () => {
    const life = await eventually("the trace", async () => {
      const bodies = bodiesAt(receiver.received, TRACES);
      const whole = spansIn(bodies).find(
        (span) => span.name === "instance" && textsOf(span)["fleetingd.instance"] === id,
      );
      return whole && { whole, parts: spansIn(bodies).filter((span) => span.parentSpanId === whole.spanId) };
    });
    assert.deepEqual(textsOf(life.whole), {
      ...{ "fleetingd.pool": "default", "fleetingd.instance": id },
      ...{ "fleetingd.group": "default/job-4711", "fleetingd.cause": "released" },
    });
    assert.ok(life.parts.every(({ traceId }) => traceId === life.whole.traceId));
    const begins = ({ startTimeUnixNano }: { startTimeUnixNano: string }): number =>
      Number(startTimeUnixNano);
    assert.deepEqual(
      life.parts.toSorted((a, b) => begins(a) - begins(b)).map(({ name }) => name),
      ["image", "clone", "boot", "ready", "warm", "claimed", "removing"],
    );
  });

  test("has every line in the journal with its priority, and no secret in any", async () => {
    const path = join(daemon.directory, "config.toml");
    const good = await readFile(path, "utf8");
    const reload = async (text: string, pattern: RegExp): Promise<void> => {
      await writeFile(path, text);
      daemon.process.kill("SIGHUP");
      await logged(pattern);
    };
    await reload(good.replace("vm_memory_mb = 512", "vm_memory_mb = 513"), /vm_memory_mb has changed/);
    await reload(`${good}\nodd = 1\n`, /the earlier one holds/);
    await writeFile(path, good);
    const entries = (await cli("logs", "--json"))
      .split("\n")
      .map((line) => parseExactly(logEntrySchema, line));
    for (const wanted of ["info", "warn", "error"])
      assert.ok(
        entries.some(({ level }) => level === wanted),
        wanted,
      );
    const written = daemon.log().trimEnd().split("\n");
    assert.deepEqual(
      written.filter((line) => !/^<[3467]>./.test(line)),
      [],
    );
    for (const { level, message } of entries) {
      const line = `<${PRIORITIES[level]}>${message.replaceAll("\n", "\\n")}`;
      assert.ok(
        written.some((one) => one.startsWith(line)),
        line,
      );
    }
    const told = [daemon.log(), events, ...receiver.received.map(({ body }) => body.toString("utf8"))].join();
    const secrets = key.split("\n").filter((line) => line.length > 20);
    assert.ok(secrets.length > 2);
    for (const secret of secrets) assert.ok(!told.includes(secret), "a line of its key");
  });
});
