/** Metrics of a real daemon with stand-in VMs, and what is shipped beside them, judged by Prometheus' own checker. */
import assert from "node:assert/strict";
import { copyFile, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { execa } from "execa";
import { waitFor } from "../../../src/host/wait.ts";
import { FLEETINGD, ROOT, type TestDaemon } from "../../helpers/daemon.ts";
import { attachGroup } from "../../helpers/group-client.ts";
import { needsNamespace } from "../../helpers/namespace.ts";
import { preparePromtool } from "../../helpers/promtool.ts";
import { createStandInWorld, STAND_IN_POOL, type StandInWorld } from "../../helpers/stand-in-world.ts";
import { failOnLeaks } from "../../helpers/suite.ts";

failOnLeaks();

const LISTEN = "127.0.0.1:9464";

describe("metrics of a daemon", { skip: needsNamespace() }, () => {
  let world: StandInWorld;
  let daemon: TestDaemon;

  before(async () => {
    world = await createStandInWorld();
    const pool = { warm_instances: 2, max_instances: 3 };
    daemon = await world.start({ pool, settings: { metrics_listen: LISTEN }, ephemeral: true });
    await daemon.untilWarm(STAND_IN_POOL, 2);
  });
  after(async () => {
    await daemon.stop();
    await world.remove();
  });

  const scrape = async (): Promise<string> => (await fetch(`http://${LISTEN}/metrics`)).text();
  const value = (text: string, series: string): number =>
    Number(
      text
        .split("\n")
        .find((line) => line.startsWith(`${series} `))
        ?.slice(series.length) ?? Number.NaN,
    );

  test("are what Prometheus expects", async () => {
    const text = await scrape();
    // It also has opinions on names, of which there are none against ours.
    const { stdout, stderr } = await execa(await preparePromtool(), ["check", "metrics"], { input: text });
    assert.equal(`${stdout}${stderr}`, "");
    assert.equal(value(text, 'fleetingd_warm_instances{pool="ci"}'), 2);
    assert.equal(value(text, 'fleetingd_instance_phase_duration_seconds_count{pool="ci",phase="boot"}'), 2);
    assert.ok(value(text, 'fleetingd_plans_total{pool="ci"}') > 0);
    assert.ok(value(text, "process_resident_memory_bytes") > 1e7);
  });

  test("follow a job from its claim to the end of its VM, and are printed by the command, too", async () => {
    const group = await attachGroup(daemon.client, { pool: STAND_IN_POOL });
    assert.equal(await group.increase(5), 3);
    await waitFor(async () => ((await group.running()).length === 3 ? true : undefined), {
      timeoutMs: 60_000,
      intervalMs: 20,
      what: "three instances",
    });
    await group.decrease(await group.running());
    await waitFor(
      async () => {
        const text = await scrape();
        return value(text, 'fleetingd_instances_deleted_total{pool="ci"}') === 3 ? true : undefined;
      },
      { timeoutMs: 60_000, intervalMs: 50, what: "three deletions" },
    );
    const args = ["--config", join(daemon.directory, "config.toml"), "metrics"];
    const { stdout: text } = await execa(FLEETINGD, args);
    assert.equal(value(text, 'fleetingd_instances_claimed_total{pool="ci",from="warm"}'), 2);
    assert.equal(value(text, 'fleetingd_instances_claimed_total{pool="ci",from="new"}'), 1);
    assert.equal(value(text, 'fleetingd_instances_rejected_total{pool="ci",limit="max_instances"}'), 2);
    assert.equal(value(text, 'fleetingd_claim_wait_seconds_count{pool="ci"}'), 3);
    assert.equal(value(text, 'fleetingd_api_calls_total{operation="increase"}'), 1);
    assert.equal(value(text, "fleetingd_plugins_attached"), 1);
    group.detach();
  });
});

describe("what is shipped for monitoring", () => {
  let folder: string;

  before(async () => {
    folder = await mkdtemp(join(tmpdir(), "monitoring-"));
    for (const [from, to] of [
      ["monitoring/alerts.yml", "alerts.yml"],
      ["test/unit/metrics/alerts.test.yml", "test.yml"],
    ] as const)
      await copyFile(join(ROOT, from), join(folder, to));
  });
  after(() => rm(folder, { recursive: true }));

  test("alerts are rules, and fire when they should", async () => {
    const promtool = await preparePromtool();
    await execa(promtool, ["check", "rules", "alerts.yml"], { cwd: folder });
    await execa(promtool, ["test", "rules", "test.yml"], { cwd: folder });
  });

  test("the dashboard's queries are queries", async () => {
    const text = await readFile(join(ROOT, "monitoring/grafana-dashboard.json"), "utf8");
    const { panels } = JSON.parse(text) as { panels: { targets: { expr: string }[] }[] };
    const queries = panels.flatMap(({ targets }) => targets.map(({ expr }) => expr));
    assert.ok(queries.length > 20);
    // What Grafana would fill in.
    const filled = queries.map((query) =>
      query.replaceAll("$__rate_interval", "5m").replaceAll(/\$\w+/g, ".*"),
    );
    const rules = filled.map((expr, index) => ({ record: `query:${index}`, expr }));
    await writeFile(join(folder, "queries.yml"), JSON.stringify({ groups: [{ name: "dashboard", rules }] }));
    await execa(await preparePromtool(), ["check", "rules", "queries.yml"], { cwd: folder });
  });
});
