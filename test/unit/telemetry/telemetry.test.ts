/** What arrives at a receiver of OpenTelemetry's, by HTTP, for what happens in the daemon. */
import assert from "node:assert/strict";
import { after, before, beforeEach, describe, test } from "node:test";
import { BinaryReader } from "@bufbuild/protobuf/wire";
import type { DaemonEvent } from "../../../src/events.ts";
import { waitFor } from "../../../src/host/wait.ts";
import { createLogger, type LogEntry } from "../../../src/log.ts";
import { createMetrics, type Metrics } from "../../../src/metrics/metrics.ts";
import { startTelemetry, type Telemetry } from "../../../src/telemetry/telemetry.ts";
import { wantedTelemetry } from "../../../src/telemetry/variables.ts";
import { SNAPSHOT } from "../../helpers/metrics-snapshot.ts";
import {
  type Body,
  bodiesAt,
  type Metric,
  type OtlpReceiver,
  spansIn,
  startOtlpReceiver,
  textsOf,
} from "../../helpers/otlp-receiver.ts";

const INSTANCE = "fl-bcdfghjkmnpq";
const at = { pool: "ci", instance: INSTANCE };
const LIFE: readonly DaemonEvent[] = [
  { kind: "creating", ...at },
  { kind: "phase", ...at, phase: "image" },
  { kind: "phase", ...at, phase: "clone" },
  { kind: "fell-back", ...at, to: "boot", reason: "the snapshot is gone" },
  { kind: "phase", ...at, phase: "boot" },
  { kind: "phase", ...at, phase: "ready" },
  { kind: "ready", ...at, seconds: 1.5, phases: [] },
  { kind: "claimed", ...at, group: "ci/a", from: "warm" },
  { kind: "connected", ...at, group: "ci/a" },
  { kind: "ending", ...at, cause: "released" },
  { kind: "deleted", ...at, seconds: 0.2 },
];

let receiver: OtlpReceiver;

before(async () => {
  receiver = await startOtlpReceiver();
});
after(() => receiver.close());

let lines: LogEntry[];
let metrics: Metrics;
/** As the exporters read them: from the process's own environment. */
const given = new Set<string>();

beforeEach(() => {
  receiver.answer = 200;
  receiver.received.length = 0;
  lines = [];
  metrics = createMetrics(() => Promise.reject(new Error("nobody asks")));
});

function setVariables(variables: Record<string, string>): void {
  for (const name of given) delete process.env[name];
  given.clear();
  for (const [name, value] of Object.entries(variables)) {
    given.add(name);
    process.env[name] = value;
  }
}
after(() => setVariables({}));

async function start(variables: Record<string, string>, stopTimeoutMs = 60_000): Promise<Telemetry> {
  setVariables(variables);
  const logger = createLogger({
    format: "json",
    level: "debug",
    write: () => undefined,
    onEntry: (entry) => lines.push(entry),
  });
  const collect = metrics.collect;
  return startTelemetry({ env: process.env, version: "1.2.3", collect, logger, stopTimeoutMs });
}

const bodies = (path: string): Body[] => bodiesAt(receiver.received, path);
const JSON_TRACES = (): Record<string, string> => ({
  OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: `${receiver.endpoint}/v1/traces`,
  OTEL_EXPORTER_OTLP_PROTOCOL: "http/json",
});

describe("traces", () => {
  async function traceOf(events: readonly DaemonEvent[], variables = JSON_TRACES()): Promise<Body[]> {
    const telemetry = await start(variables);
    for (const event of events) telemetry.observe(event);
    await telemetry.stop();
    return bodies("/v1/traces");
  }

  test("have a span for the life of an instance, and below it one for each phase", async () => {
    const body = await traceOf(LIFE, {
      ...JSON_TRACES(),
      OTEL_SERVICE_NAME: "ci-host-7",
      OTEL_RESOURCE_ATTRIBUTES: "deployment.environment=rack",
      OTEL_EXPORTER_OTLP_HEADERS: "x-key=geheim",
    });
    const spans = spansIn(body);
    const whole = spans.find(({ name }) => name === "instance");
    assert.ok(whole);
    assert.equal(whole.parentSpanId ?? "", "");
    assert.deepEqual(textsOf(whole), {
      "fleetingd.pool": "ci",
      "fleetingd.instance": INSTANCE,
      "fleetingd.group": "ci/a",
      "fleetingd.cause": "released",
    });
    assert.deepEqual(
      whole.events.map(({ name }) => name),
      ["fell-back", "connected"],
    );
    const phases = spans.filter(({ name }) => name !== "instance");
    assert.deepEqual(
      phases.map(({ name }) => name),
      ["image", "clone", "boot", "ready", "warm", "claimed", "removing"],
    );
    for (const [index, phase] of phases.entries()) {
      assert.deepEqual([phase.traceId, phase.parentSpanId], [whole.traceId, whole.spanId], phase.name);
      const next = phases[index + 1];
      // One ends where the next one begins.
      assert.equal(phase.endTimeUnixNano, next?.startTimeUnixNano ?? phase.endTimeUnixNano, phase.name);
      assert.ok(BigInt(phase.startTimeUnixNano) >= BigInt(whole.startTimeUnixNano));
      assert.ok(BigInt(phase.endTimeUnixNano) <= BigInt(whole.endTimeUnixNano));
    }
    const resource = textsOf(body[0]?.resourceSpans?.[0]?.resource ?? {});
    assert.equal(resource["service.name"], "ci-host-7");
    assert.equal(resource["deployment.environment"], "rack");
    assert.equal(resource["service.version"], "1.2.3");
    assert.equal(receiver.received[0]?.headers["x-key"], "geheim");
    assert.doesNotMatch(JSON.stringify(lines), /geheim/);
  });

  test("say what failed", async () => {
    const spans = spansIn(
      await traceOf([
        { kind: "creating", ...at, group: "ci/a" },
        { kind: "phase", ...at, phase: "boot" },
        { kind: "failed", ...at, seconds: 2, phase: "boot", error: "no login" },
        { kind: "deleted", ...at, seconds: 0.1 },
      ]),
    );
    const failed = spans.filter(({ status }) => status.code === 2);
    assert.deepEqual(failed.map(({ name, status }) => [name, status.message]).sort(), [
      ["boot", "no login"],
      ["instance", "no login"],
    ]);
  });

  test("go on in the next daemon, with the same ids, where the first one has stopped", async () => {
    const before_ = spansIn(await traceOf(LIFE.slice(0, 8)));
    assert.ok(!before_.some(({ name }) => name === "instance" || name === "claimed"));
    const createdAt = Date.now() - 60_000;
    const times = { createdAt, readyAt: createdAt + 1_000, claimedAt: createdAt + 5_000 };
    receiver.received.length = 0;
    const after_ = spansIn(
      await traceOf([
        { kind: "adopted", ...at, state: "ready", alive: true, group: "ci/a", phases: [], ...times },
        ...LIFE.slice(9),
      ]),
    );
    assert.deepEqual(
      after_.map(({ name }) => name),
      ["claimed", "removing", "instance"],
    );
    const whole = after_.at(-1);
    assert.equal(whole?.startTimeUnixNano, String(BigInt(createdAt) * 1_000_000n));
    assert.deepEqual(new Set([...before_, ...after_].map(({ traceId }) => traceId)).size, 1);
    assert.ok(before_.every(({ parentSpanId }) => parentSpanId === whole?.spanId));
  });

  test("go as protobuf where no variable says otherwise", async () => {
    const telemetry = await start({
      OTEL_EXPORTER_OTLP_ENDPOINT: receiver.endpoint,
      OTEL_METRICS_EXPORTER: "none",
    });
    for (const event of LIFE) telemetry.observe(event);
    await telemetry.stop();
    const [request] = receiver.received;
    assert.equal(request?.path, "/v1/traces");
    assert.equal(request?.headers["content-type"], "application/x-protobuf");
    // ExportTraceServiceRequest.resource_spans, ResourceSpans.scope_spans, ScopeSpans.spans, Span.name
    const spans = [1, 2, 2].reduce(
      (parts, field) => parts.flatMap((part) => fields(part, field)),
      [request.body as Uint8Array],
    );
    const names = spans.flatMap((span) => fields(span, 5)).map((name) => Buffer.from(name).toString());
    assert.deepEqual(names.sort(), [
      "boot",
      "claimed",
      "clone",
      "image",
      "instance",
      "ready",
      "removing",
      "warm",
    ]);
  });
});

/** The values of a field of a message, which are of variable length. */
function fields(message: Uint8Array, wanted: number): Uint8Array[] {
  const reader = new BinaryReader(message);
  const values: Uint8Array[] = [];
  while (reader.pos < reader.len) {
    const [field, type] = reader.tag();
    if (field === wanted) values.push(reader.bytes());
    else reader.skip(type);
  }
  return values;
}

describe("metrics", () => {
  test("are those that Prometheus reads, with their labels and buckets", async () => {
    metrics = createMetrics(async () => SNAPSHOT);
    for (const seconds of [0.2, 0.2, 4, 10_000])
      metrics.observe({ kind: "ready", ...at, seconds, phases: [] });
    const telemetry = await start({
      OTEL_EXPORTER_OTLP_METRICS_ENDPOINT: `${receiver.endpoint}/v1/metrics`,
      OTEL_EXPORTER_OTLP_METRICS_PROTOCOL: "http/json",
    });
    await telemetry.stop();
    const sent = bodies("/v1/metrics").flatMap(({ resourceMetrics = [] }) =>
      resourceMetrics.flatMap(({ scopeMetrics }) => scopeMetrics.flatMap((scope) => scope.metrics)),
    );
    const find = (name: string): Metric => {
      const metric = sent.find((one) => one.name === name);
      assert.ok(metric, name);
      return metric;
    };
    const text = await metrics.render();
    const families = [...text.matchAll(/^# TYPE (\S+)/gm)].map((match) => match[1]);
    assert.deepEqual(sent.map(({ name }) => name).sort(), families.sort());

    const created = find("fleetingd_instances_created_total").sum;
    assert.deepEqual([created?.isMonotonic, created?.aggregationTemporality], [true, 2]);
    assert.deepEqual(
      created?.dataPoints.map((point) => [textsOf(point), point.asDouble]),
      [[{ pool: "ci" }, 4]],
    );
    const info = find("fleetingd_info").gauge?.dataPoints[0];
    assert.equal(textsOf(info ?? {})["version"], "1.2.3");

    const [point] = find("fleetingd_instance_creation_duration_seconds").histogram?.dataPoints ?? [];
    assert.ok(point);
    assert.deepEqual([Number(point.count), point.sum, textsOf(point)], [4, 10_004.4, { pool: "ci" }]);
    const counts = (point.bucketCounts ?? []).map(Number);
    assert.equal(counts.length, (point.explicitBounds ?? []).length + 1);
    const bound = (limit: number): number => (point.explicitBounds ?? []).indexOf(limit);
    assert.deepEqual([counts[bound(0.25)], counts[bound(5)], counts.at(-1)], [2, 1, 1]);
    assert.equal(
      counts.reduce((sum, count) => sum + count, 0),
      4,
    );
  });
});

describe("a receiver", () => {
  test("that is away is told of once, and nothing else suffers", async () => {
    receiver.answer = 400;
    const telemetry = await start({ ...JSON_TRACES(), OTEL_BSP_SCHEDULE_DELAY: "10" });
    for (let round = 0; round < 3; round++) {
      for (const event of LIFE) telemetry.observe(event);
      const seen = receiver.received.length;
      await waitFor(async () => (receiver.received.length > seen ? true : undefined), {
        ...{ timeoutMs: 60_000, intervalMs: 5, what: "a request" },
      });
    }
    await telemetry.stop();
    const warnings = lines.filter(({ level }) => level === "warn");
    assert.equal(warnings.length, 1, JSON.stringify(warnings));
    assert.match(warnings[0]?.message ?? "", /traces or metrics were not sent/);
  });

  test("that never answers does not hold up the daemon's end", async () => {
    receiver.answer = "never";
    const telemetry = await start({ ...JSON_TRACES(), OTEL_EXPORTER_OTLP_TIMEOUT: "600" }, 50);
    for (const event of LIFE) telemetry.observe(event);
    await telemetry.stop();
    assert.match(lines.at(-1)?.message ?? "", /the last traces and metrics may be lost/);
  });

  test("whose address is none does not keep the daemon from its start", async () => {
    const telemetry = await start({
      OTEL_EXPORTER_OTLP_ENDPOINT: "not a URL",
      OTEL_EXPORTER_OTLP_TIMEOUT: "100",
    });
    for (const event of LIFE) telemetry.observe(event);
    await telemetry.stop();
    assert.ok(lines.some(({ level }) => level === "warn"));
  });
});

test("only variables that ask for it start anything", () => {
  const to = "http://127.0.0.1:4318";
  const all = { traces: "http/protobuf", metrics: "http/protobuf" };
  const cases: [Record<string, string>, object, number][] = [
    [{}, {}, 0],
    [{ OTEL_SERVICE_NAME: "x", OTEL_EXPORTER_OTLP_ENDPOINT: "" }, {}, 0],
    [{ OTEL_EXPORTER_OTLP_ENDPOINT: to }, all, 0],
    [{ OTEL_EXPORTER_OTLP_ENDPOINT: to, OTEL_SDK_DISABLED: "TRUE" }, {}, 0],
    [{ OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: to }, { traces: "http/protobuf" }, 0],
    [{ OTEL_EXPORTER_OTLP_ENDPOINT: to, OTEL_TRACES_EXPORTER: "none" }, { metrics: "http/protobuf" }, 0],
    [{ OTEL_EXPORTER_OTLP_ENDPOINT: to, OTEL_EXPORTER_OTLP_PROTOCOL: "grpc" }, {}, 2],
    [
      { OTEL_EXPORTER_OTLP_ENDPOINT: to, OTEL_METRICS_EXPORTER: "prometheus" },
      { traces: "http/protobuf" },
      1,
    ],
    [
      { OTEL_EXPORTER_OTLP_ENDPOINT: to, OTEL_EXPORTER_OTLP_TRACES_PROTOCOL: "http/json" },
      { ...all, traces: "http/json" },
      0,
    ],
  ];
  for (const [env, signals, problems] of cases) {
    const wanted = wantedTelemetry(env);
    assert.deepEqual([wanted.signals, wanted.problems.length], [signals, problems], JSON.stringify(env));
  }
  assert.equal(wantedTelemetry({ OTEL_METRIC_EXPORT_INTERVAL: "5000" }).intervalMs, 5_000);
  assert.equal(wantedTelemetry({ OTEL_METRIC_EXPORT_INTERVAL: "often" }).intervalMs, 60_000);
});
