import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { type IncomingMessage, request } from "node:http";
import { hostname } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import type { DaemonEvent } from "../../../src/events.ts";
import { silentLogger } from "../../../src/log.ts";
import { createInstruments } from "../../../src/metrics/instruments.ts";
import { createMetrics } from "../../../src/metrics/metrics.ts";
import { startMetricsServer } from "../../../src/metrics/server.ts";
import { POOL, SNAPSHOT } from "../../helpers/metrics-snapshot.ts";

const ROOT = join(import.meta.dirname, "../../..");
/** The lines of a metric, without its name. */
function valuesOf(text: string, name: string): string[] {
  return text.split("\n").flatMap((line) => (line.match(`^${name}([{ ].*)$`)?.[1] ?? "").trim() || []);
}

describe("what metrics say", () => {
  const at = { pool: "ci", instance: "fl-1" };

  async function after(events: readonly DaemonEvent[], snapshot = SNAPSHOT): Promise<string> {
    const metrics = createMetrics(async () => snapshot);
    for (const event of events) metrics.observe(event);
    return metrics.render();
  }

  test("counts what happened", async () => {
    const phases = [{ name: "boot", seconds: 3 }];
    const text = await after([
      { kind: "creating", ...at },
      { kind: "ready", ...at, seconds: 3.5, phases, waitSeconds: 2 },
      { kind: "claimed", ...at, group: "ci/default", from: "warm" },
      { kind: "failed", ...at, seconds: 1, phase: "clone", error: "no" },
      { kind: "retry", ...at, state: "deleting", error: "no", attempt: 1, retryInSeconds: 1 },
      { kind: "ending", ...at, cause: "lost" },
      { kind: "ending", ...at, cause: "released" },
      { kind: "rejected", pool: "ci", group: "ci/default", rejected: 3, limit: "memory", reason: "…" },
      { kind: "leftover-removed", what: "tap", name: "fl0" },
    ]);
    assert.deepEqual(valuesOf(text, "fleetingd_instances_created_total"), ['{pool="ci"} 1']);
    assert.deepEqual(valuesOf(text, "fleetingd_instance_creation_duration_seconds_sum"), ['{pool="ci"} 3.5']);
    assert.deepEqual(valuesOf(text, "fleetingd_instance_phase_duration_seconds_sum"), [
      '{pool="ci",phase="boot"} 3',
    ]);
    assert.deepEqual(valuesOf(text, "fleetingd_claim_wait_seconds_count"), ['{pool="ci"} 2']);
    assert.deepEqual(valuesOf(text, "fleetingd_instance_failures_total"), [
      '{pool="ci",operation="create",phase="clone"} 1',
      '{pool="ci",operation="delete",phase=""} 1',
      '{pool="ci",operation="run",phase=""} 1',
    ]);
    assert.deepEqual(valuesOf(text, "fleetingd_instances_rejected_total"), ['{pool="ci",limit="memory"} 3']);
    assert.deepEqual(valuesOf(text, "fleetingd_leftovers_removed_total"), ['{what="tap"} 1']);
    assert.doesNotMatch(text, /fl-1|ci\/default/, "no label names an instance or a runner");
  });

  test("shows what is the case, and forgets pools that are gone", async () => {
    let snapshot = SNAPSHOT;
    const metrics = createMetrics(async () => snapshot);
    const text = await metrics.render();
    assert.ok(
      valuesOf(text, "fleetingd_instances").includes('{pool="ci",state="ready",claimed="true"} 2'),
      text,
    );
    assert.deepEqual(valuesOf(text, "fleetingd_warm_instances"), ['{pool="ci"} 1']);
    assert.deepEqual(valuesOf(text, "fleetingd_pool_limited"), ['{pool="ci",limit="memory"} 1']);
    assert.deepEqual(valuesOf(text, "fleetingd_circuit_breaker_retry_seconds"), ['{pool="ci"} 1.5']);
    assert.deepEqual(valuesOf(text, "fleetingd_golden_image_age_seconds"), []);
    assert.deepEqual(valuesOf(text, "fleetingd_host_memory_pressure_ratio"), []);
    assert.deepEqual(valuesOf(text, "fleetingd_plans_total"), ['{pool="ci"} 7']);
    assert.deepEqual(valuesOf(text, "fleetingd_source_state"), [
      '{pool="ci",source="rack",state="ok"} 0',
      '{pool="ci",source="rack",state="full"} 0',
      '{pool="ci",source="rack",state="failing"} 1',
    ]);
    const source = ["retry_seconds", "instances", "max_instances", "cost_per_hour"].map((name) =>
      valuesOf(text, `fleetingd_source_${name}`),
    );
    assert.deepEqual(
      source,
      [4, 3, 20, 0.25].map((value) => [`{pool="ci",source="rack"} ${value}`]),
    );
    snapshot = { ...SNAPSHOT, pools: [{ ...POOL, name: "big", limit: undefined, plans: 1, sources: [] }] };
    const later = await metrics.render();
    assert.deepEqual(valuesOf(later, "fleetingd_plans_total"), ['{pool="big"} 1']);
    assert.deepEqual(valuesOf(later, "fleetingd_pool_limited"), []);
    assert.deepEqual(valuesOf(later, "fleetingd_source_state"), []);
  });
});

describe("the server of metrics", () => {
  let server: Awaited<ReturnType<typeof startMetricsServer>>;
  const PORT = 20_000 + (process.pid % 20_000);
  const listen = { host: "127.0.0.1", port: PORT };
  const metrics = createMetrics(async () => SNAPSHOT);

  before(async () => {
    server = await startMetricsServer({ listen, metrics, logger: silentLogger });
  });
  after(() => server.close());

  function ask(options: { path?: string; method?: string; host?: string }): Promise<[number, string]> {
    const { path = "/metrics", method = "GET", host = `127.0.0.1:${PORT}` } = options;
    return new Promise((resolve, reject) => {
      const sent = request(
        { host: "127.0.0.1", port: PORT, path, method, headers: { host } },
        (response: IncomingMessage) => {
          let body = "";
          response.on("data", (text) => (body += text));
          response.once("end", () => resolve([response.statusCode ?? 0, body]));
        },
      );
      sent.once("error", reject);
      sent.end();
    });
  }

  test("answers requests that read", async () => {
    const [status, body] = await ask({});
    assert.equal(status, 200);
    assert.match(body, /^fleetingd_info\{version="1\.2\.3",/m);
    assert.deepEqual(await ask({ method: "HEAD" }), [200, ""]);
    for (const method of ["POST", "PUT", "DELETE"]) assert.equal((await ask({ method }))[0], 405);
    assert.equal((await ask({ path: "/" }))[0], 404);
  });

  for (const host of ["127.0.0.1", "[::1]:9464", "localhost:1", hostname(), hostname().toUpperCase()])
    test(`is known as ${host}`, async () => assert.equal((await ask({ host }))[0], 200));
  for (const host of ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example:80", "a b"])
    test(`is not known as «${host}»`, async () => assert.equal((await ask({ host }))[0], 421));

  test("says what is wrong with an address that is taken", async () => {
    await assert.rejects(startMetricsServer({ listen, metrics, logger: silentLogger }), {
      code: "UNAVAILABLE",
      message: /metrics can't be served on 127\.0\.0\.1:\d+: .*EADDRINUSE/,
    });
  });
});

describe("what is shipped beside them", () => {
  const known = new Set(
    createInstruments().definitions.flatMap(({ name, kind }) =>
      kind === "histogram" ? [name, `${name}_bucket`, `${name}_sum`, `${name}_count`] : [name],
    ),
  );

  for (const file of ["monitoring/alerts.yml", "monitoring/grafana-dashboard.json", "docs/metrics.md"]) {
    test(`${file} names metrics that exist`, async () => {
      const text = await readFile(join(ROOT, file), "utf8");
      const named = new Set(text.match(/\b(fleetingd|process)_[a-z_]+(?!\w|\.)/g));
      named.delete("process_");
      assert.ok(named.size >= 10, [...named].join(" "));
      assert.deepEqual(
        [...named].filter((name) => !known.has(name)),
        [],
      );
    });
  }
});
