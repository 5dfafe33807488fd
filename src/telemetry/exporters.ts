/** What sends traces and metrics to OpenTelemetry's receiver. Loaded only where variables ask for it. */
import { hostname } from "node:os";
import { DiagLogLevel, diag } from "@opentelemetry/api";
import { setGlobalErrorHandler } from "@opentelemetry/core";
import { OTLPMetricExporter as JsonMetricExporter } from "@opentelemetry/exporter-metrics-otlp-http";
import { OTLPMetricExporter } from "@opentelemetry/exporter-metrics-otlp-proto";
import { OTLPTraceExporter as JsonTraceExporter } from "@opentelemetry/exporter-trace-otlp-http";
import { OTLPTraceExporter } from "@opentelemetry/exporter-trace-otlp-proto";
import {
  defaultResource,
  detectResources,
  envDetector,
  type Resource,
  resourceFromAttributes,
} from "@opentelemetry/resources";
import { MeterProvider, PeriodicExportingMetricReader } from "@opentelemetry/sdk-metrics";
import { BasicTracerProvider, BatchSpanProcessor } from "@opentelemetry/sdk-trace-base";
import { messageOf } from "../errors.ts";
import type { EventSink } from "../events.ts";
import type { MetricFamily } from "../metrics/metrics.ts";
import { LifeIds, LifeSpans } from "./life-spans.ts";
import { collectionOf, metricData } from "./metric-data.ts";
import type { Protocol } from "./variables.ts";

/** A program that is asked for a `service.name` and has none given. */
const NAME = "fleetingd";
const LONGEST_EXPORT_MS = 30_000;

export interface Exporter {
  /** Sends what there is, and ends. */
  stop(): Promise<void>;
}

/** @param onProblem told of everything that goes wrong from now on */
export function prepare(version: string, onProblem: (message: string) => void): Resource {
  const tell = (message: string): void => onProblem(message);
  const ignore = (): void => undefined;
  diag.setLogger(
    { error: tell, warn: tell, info: ignore, debug: ignore, verbose: ignore },
    { logLevel: DiagLogLevel.WARN, suppressOverrideMessage: true },
  );
  setGlobalErrorHandler((error) => onProblem(messageOf(error)));
  return defaultResource()
    .merge(
      resourceFromAttributes({ "service.name": NAME, "service.version": version, "host.name": hostname() }),
    )
    .merge(detectResources({ detectors: [envDetector] }));
}

export function exportTraces(
  resource: Resource,
  protocol: Protocol,
  version: string,
): Exporter & { observe: EventSink } {
  const exporter = protocol === "http/json" ? new JsonTraceExporter() : new OTLPTraceExporter();
  const ids = new LifeIds();
  const provider = new BasicTracerProvider({
    resource,
    idGenerator: ids,
    spanProcessors: [new BatchSpanProcessor(exporter)],
  });
  const spans = new LifeSpans(provider.getTracer(NAME, version), ids);
  return { observe: (event) => spans.observe(event), stop: () => provider.shutdown() };
}

export function exportMetrics(
  resource: Resource,
  protocol: Protocol,
  {
    version,
    intervalMs,
    collect,
  }: { version: string; intervalMs: number; collect: () => Promise<MetricFamily[]> },
): Exporter {
  const startedAt = Date.now();
  const producer = {
    collect: async () => {
      const families = await collect();
      const now = Date.now();
      const metrics = families.map((family) => metricData(family, startedAt, now));
      return collectionOf(metrics, { name: NAME, version });
    },
  };
  const reader = new PeriodicExportingMetricReader({
    exporter: protocol === "http/json" ? new JsonMetricExporter() : new OTLPMetricExporter(),
    exportIntervalMillis: intervalMs,
    exportTimeoutMillis: Math.min(intervalMs, LONGEST_EXPORT_MS),
    metricProducers: [producer],
  });
  const provider = new MeterProvider({ resource, readers: [reader] });
  return { stop: () => provider.shutdown() };
}
