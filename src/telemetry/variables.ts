/** OpenTelemetry's own variables (https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/): what they ask for. */

export type Signal = "traces" | "metrics";
export type Protocol = "http/protobuf" | "http/json";

export interface Wanted {
  /** How each signal that is wanted is sent. */
  signals: Partial<Record<Signal, Protocol>>;
  /** Why some that were asked for are not sent, a sentence each. */
  problems: string[];
  /** How often metrics are sent. */
  intervalMs: number;
}

type Environment = Readonly<Record<string, string | undefined>>;

const SIGNALS: readonly Signal[] = ["traces", "metrics"];
const PROTOCOLS: readonly string[] = ["http/protobuf", "http/json"];
const DEFAULT_INTERVAL_MS = 60_000;
const LEAST_INTERVAL_MS = 100;

/** What is to be exported: nothing, unless a variable names where to. The exporters read the others by themselves. */
export function wantedTelemetry(env: Environment): Wanted {
  const wanted: Wanted = { signals: {}, problems: [], intervalMs: interval(env) };
  if (env["OTEL_SDK_DISABLED"]?.toLowerCase() === "true") return wanted;
  for (const signal of SIGNALS) {
    const name = signal.toUpperCase();
    if (isUnset(env["OTEL_EXPORTER_OTLP_ENDPOINT"]) && isUnset(env[`OTEL_EXPORTER_OTLP_${name}_ENDPOINT`]))
      continue;
    const exporter = env[`OTEL_${name}_EXPORTER`] || "otlp";
    if (exporter === "none") continue;
    const protocol =
      env[`OTEL_EXPORTER_OTLP_${name}_PROTOCOL`] || env["OTEL_EXPORTER_OTLP_PROTOCOL"] || "http/protobuf";
    if (exporter !== "otlp")
      wanted.problems.push(`OTEL_${name}_EXPORTER is ${exporter}, and only otlp is there`);
    else if (isProtocol(protocol)) wanted.signals[signal] = protocol;
    else
      wanted.problems.push(
        `the protocol of OpenTelemetry for ${signal} is ${protocol}, and only http/protobuf and http/json are there; receivers have them on port 4318`,
      );
  }
  return wanted;
}

function isProtocol(protocol: string): protocol is Protocol {
  return PROTOCOLS.includes(protocol);
}

/** An empty variable means the same as none. */
function isUnset(value: string | undefined): boolean {
  return value === undefined || value === "";
}

function interval(env: Environment): number {
  const ms = Number(env["OTEL_METRIC_EXPORT_INTERVAL"]);
  return Number.isFinite(ms) && ms >= LEAST_INTERVAL_MS ? ms : DEFAULT_INTERVAL_MS;
}
