/** The commands that watch a daemon, as an operator has them: a real daemon, stand-in VMs, a real terminal. */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { execa } from "execa";
import { logEntrySchema, loggedEventSchema, timelineSchema } from "../../../src/api/events.ts";
import { instancesSchema, statusSchema, whySchema } from "../../../src/api/status.ts";
import { waitFor } from "../../../src/host/wait.ts";
import { commandLineOf, parseExactly } from "../../helpers/command-line.ts";
import type { TestDaemon } from "../../helpers/daemon.ts";
import { attachGroup, type GroupClient } from "../../helpers/group-client.ts";
import { needsNamespace } from "../../helpers/namespace.ts";
import { createStandInWorld, STAND_IN_POOL, type StandInWorld } from "../../helpers/stand-in-world.ts";
import { failOnLeaks } from "../../helpers/suite.ts";
import { openTerminal, type Terminal } from "../../helpers/terminal.ts";

failOnLeaks();

const TIMEOUT_MS = 60_000;
const NOBODY = 65_534;

describe("an operator", { skip: needsNamespace() }, () => {
  let world: StandInWorld;
  let daemon: TestDaemon;
  let group: GroupClient;

  before(async () => {
    world = await createStandInWorld();
    daemon = await world.start({ pool: { warm_instances: 2, max_instances: 4 }, ephemeral: true });
    await daemon.untilWarm(STAND_IN_POOL, 2);
    group = await attachGroup(daemon.client, { pool: STAND_IN_POOL });
  });
  after(async () => {
    group.detach();
    await daemon.stop();
    await world.remove();
  });

  const command = (...words: string[]): string[] => commandLineOf(daemon).words(...words);
  const cli = (...words: string[]): Promise<string> => commandLineOf(daemon).output(...words);
  const eventually = (what: string, holds: () => Promise<boolean>): Promise<true> =>
    waitFor(async () => ((await holds()) ? true : undefined), {
      timeoutMs: TIMEOUT_MS,
      intervalMs: 50,
      what,
    });
  const useOne = async (): Promise<string> => {
    const before = new Set(await group.running());
    await group.increase(1);
    let id: string | undefined;
    await eventually("an instance of the group", async () => {
      id = (await group.running()).find((one) => !before.has(one));
      return id !== undefined;
    });
    return id ?? "";
  };

  test("sees what there is, as text and as JSON that fits its schema", async () => {
    const id = await useOne();
    assert.match(await cli("ps"), new RegExp(`^${id}  ci +in use +\\d+s +172\\.16\\.\\S+ +ci/default`, "m"));
    assert.match(await cli("ps"), /^fl-\S+ +ci +(warm|creating: \w+|creating) /m);
    const { instances } = parseExactly(instancesSchema, await cli("ps", "--json"));
    assert.ok(instances.some((one) => one.id === id && one.group === "ci/default"));
    assert.equal(
      parseExactly(instancesSchema, await cli("ps", "--json", "--pool", "none")).instances.length,
      0,
    );
    parseExactly(statusSchema, await cli("status", "--json"));
    await group.decrease([id]);
  });

  test("is told the life of an instance, from its making to its end, also when it is gone", async () => {
    const id = await useOne();
    await group.connectInfo(id);
    const alive = parseExactly(timelineSchema, await cli("explain", id, "--json"));
    assert.deepEqual([alive.state, alive.pool, alive.group], ["ready", "ci", "ci/default"]);
    await group.decrease([id]);
    await eventually("its end", async () => !(await cli("ps")).includes(id));
    const timeline = parseExactly(timelineSchema, await cli("explain", id, "--json"));
    assert.equal(timeline.state, "gone");
    assert.match(timeline.outcome, /the runner gave it back/);
    const phases = timeline.steps.filter(({ what }) => what.startsWith("made: "));
    assert.deepEqual(
      phases.map(({ what }) => what),
      ["made: image", "made: clone", "made: boot", "made: ready"],
    );
    for (const { seconds } of phases) assert.ok(seconds !== null && seconds >= 0 && seconds < 60);
    const text = await cli("explain", id);
    for (const part of [
      /made: boot/,
      /ready for a job, after/,
      /claimed by ci\/default: it was warm/,
      /asked how to log in/,
      /gone/,
    ])
      assert.match(text, part);
    await assert.rejects(cli("explain", "fl-unknown"), {
      exitCode: 1,
      stderr: /nothing is known of an instance fl-unknown/,
    });
  });

  test("reads events and log lines of one instance, or follows all", async () => {
    const [program = "", ...args] = command("events", "--follow", "--json");
    const following = execa(program, args, { reject: false });
    let seen = "";
    following.stdout.on("data", (data) => (seen += String(data)));
    const id = await useOne();
    await group.decrease([id]);
    await eventually("its end among the events", async () =>
      seen.split("\n").some((line) => line.includes('"deleted"') && line.includes(id)),
    );
    following.kill("SIGTERM");
    await following;
    for (const line of seen.trimEnd().split("\n")) parseExactly(loggedEventSchema, line);
    const own = (await cli("events", id, "--json"))
      .split("\n")
      .map((line) => parseExactly(loggedEventSchema, line));
    assert.ok(own.every((event) => "instance" in event && event.instance === id));
    assert.ok(own.some(({ kind }) => kind === "claimed"));
    assert.match(await cli("events", id), new RegExp(`^[\\d:]{8}  ready +${id}  seconds=`, "m"));
    const lines = (await cli("logs", id, "--json"))
      .split("\n")
      .map((line) => parseExactly(logEntrySchema, line));
    assert.ok(lines.every(({ fields }) => fields["instance"] === id));
    assert.ok(lines.some(({ message }) => message === "an instance is ready"));
    assert.match(await cli("logs"), /^[\d:]{8} info {2}the daemon is ready /m);
    // Keys are in no line.
    assert.doesNotMatch(`${await cli("logs")}${seen}`, /PRIVATE KEY/);
  });

  test("asks why there are too few", async () => {
    await eventually("two warm ones", async () => /^ci: 2 of 2 .*as it should be\.$/.test(await cli("why")));
    await world.programs.setFault("hypervisor", "exit");
    const [used] = [await useOne()];
    await eventually("the reason", async () =>
      /^ci: 1 of 2 warm VMs are ready, because the last one could not be made, and the next try is .*: .+\.$/s.test(
        await cli("why", "ci"),
      ),
    );
    const { pools } = parseExactly(whySchema, await cli("why", "--json"));
    assert.match(pools[0]?.why ?? "", /could not be made/);
    const failed = (await cli("events", "--json"))
      .split("\n")
      .map((line) => parseExactly(loggedEventSchema, line));
    const failure = failed.find(({ kind }) => kind === "failed");
    assert.ok(failure?.kind === "failed");
    const why = parseExactly(timelineSchema, await cli("explain", failure.instance, "--json"));
    assert.match(why.outcome, /could not be made \(boot\)/);
    assert.ok(why.steps.some(({ isProblem }) => isProblem));
    await world.programs.setFault("hypervisor", undefined);
    await group.decrease([used]);
    await daemon.untilWarm(STAND_IN_POOL, 2).catch(() => undefined);
    await eventually("two warm ones again", async () => /as it should be/.test(await cli("why")));
    await assert.rejects(cli("why", "none"), {
      exitCode: 1,
      stderr: /there is no pool none\. The pools are: ci/,
    });
  });

  test("reads a console, which root alone may", async () => {
    const [id = ""] = parseExactly(instancesSchema, await cli("ps", "--json")).instances.map((one) => one.id);
    const [console = "", ...ofId] = command("console", id);
    const { stdout, stderr } = await execa(console, ofId);
    assert.equal(stdout, "");
    assert.match(stderr, new RegExp(`^${id} has shown nothing so far`));
    await assert.rejects(cli("console", "../../etc"), { stderr: /there is no instance \.\.\/\.\.\/etc/ });
    const [program = "", ...args] = command("console", id);
    const refused = await execa(program, args, { uid: NOBODY, gid: NOBODY, reject: false });
    assert.notEqual(refused.exitCode, 0);
    assert.doesNotMatch(refused.stdout, /./);
  });

  test("logs in, as root alone, and gets the command's output and exit code", async () => {
    const [id = ""] = parseExactly(instancesSchema, await cli("ps", "--json")).instances.map((one) => one.id);
    assert.equal(await cli("ssh", id, "--", "echo", "$((6 * 7))"), "42");
    await assert.rejects(cli("ssh", id, "--", "exit", "7"), { exitCode: 7 });
    const [program = "", ...args] = command("ssh", id, "true");
    assert.notEqual((await execa(program, args, { uid: NOBODY, gid: NOBODY, reject: false })).exitCode, 0);
  });

  for (const columns of [80, 200]) {
    describe(`at a terminal of ${columns} columns`, () => {
      let terminal: Terminal;

      before(async () => {
        terminal = await openTerminal(command("top", "--interval", "0.2"), { columns, rows: 24 });
      });
      after(() => terminal.close());

      test("top draws what there is, sorts, follows the terminal's size and leaves it as it was", async () => {
        const lines = await terminal.untilShows(/^INSTANCE /m);
        assert.ok(lines.every((line) => line.length <= columns));
        assert.match(lines.join("\n"), /^fleetingd \S+, up /m);
        assert.match(lines.join("\n"), /^ci +2\/2/m);
        assert.equal(/GOLDEN IMAGE/.test(lines.join("\n")), columns === 200);
        assert.match(lines.at(-1) ?? "", /q quit .*sort: s state/);
        const id = await useOne();
        await terminal.untilShows(new RegExp(`^${id} +ci +in use`, "m"));
        await terminal.press("g");
        const byGroup = await terminal.untilShows(new RegExp(`INSTANCE[^\\n]*\\n${id} `));
        assert.ok(byGroup.length > 0);
        await terminal.press("r");
        await terminal.untilShows(new RegExp(`${id} [^\\n]*\\n\\n`));
        await terminal.resize(columns, 12);
        await terminal.untilShows(/q quit/);
        await group.decrease([id]);
        await terminal.press("q");
        await terminal.untilShows(/^ended> ?$/m);
        assert.doesNotMatch((await terminal.screen()).join("\n"), /INSTANCE/);
      });
    });
  }

  test("gets a plain page where there is no terminal", async () => {
    assert.match(await cli("top"), /^POOL [\s\S]*^INSTANCE /m);
  });
});
