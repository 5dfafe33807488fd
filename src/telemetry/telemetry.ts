/** Sends traces and metrics by OpenTelemetry's protocol, if its variables ask for it. Whatever goes wrong with that disturbs nothing. */
import { describeError } from "../errors.ts";
import type { DaemonEvent, EventSink } from "../events.ts";
import { redact } from "../host/redact.ts";
import { withTimeout } from "../host/wait.ts";
import type { Logger } from "../log.ts";
import type { MetricFamily } from "../metrics/metrics.ts";
import { wantedTelemetry } from "./variables.ts";

const STOP_TIMEOUT_MS = 5_000;
/** A receiver that is away is away for a while. */
const REPEAT_MS = 600_000;

export interface Telemetry {
  observe: EventSink;
  /** Sends what has not been sent, as far as that is possible in a few seconds. */
  stop(): Promise<void>;
}

export interface TelemetryOptions {
  env: Readonly<Record<string, string | undefined>>;
  version: string;
  collect: () => Promise<MetricFamily[]>;
  logger: Logger;
  stopTimeoutMs?: number;
}

export const NO_TELEMETRY: Telemetry = { observe: () => undefined, stop: async () => undefined };

/** Never throws. */
export async function startTelemetry(options: TelemetryOptions): Promise<Telemetry> {
  const { env, logger } = options;
  const wanted = wantedTelemetry(env);
  for (const problem of wanted.problems) logger.warn(problem);
  if (Object.keys(wanted.signals).length === 0) return NO_TELEMETRY;
  try {
    return await start(options, wanted);
  } catch (error) {
    logger.warn("traces and metrics can't be sent", { error: redact(describeError(error)) });
    return NO_TELEMETRY;
  }
}

async function start(
  { version, collect, logger, stopTimeoutMs = STOP_TIMEOUT_MS }: TelemetryOptions,
  { signals, intervalMs }: ReturnType<typeof wantedTelemetry>,
): Promise<Telemetry> {
  const { exportMetrics, exportTraces, prepare } = await import("./exporters.ts");
  const resource = prepare(
    version,
    seldom((error) => logger.warn("traces or metrics were not sent", { error })),
  );
  const traces = signals.traces === undefined ? undefined : exportTraces(resource, signals.traces, version);
  const metrics =
    signals.metrics === undefined
      ? undefined
      : exportMetrics(resource, signals.metrics, { version, intervalMs, collect });
  logger.info("traces and metrics are sent as OpenTelemetry's variables say", { ...signals });
  return {
    observe: (event: DaemonEvent) => traces?.observe(event),
    async stop() {
      const all = Promise.allSettled([traces?.stop(), metrics?.stop()]);
      try {
        await withTimeout(all, stopTimeoutMs, "the last traces and metrics to be sent");
      } catch (error) {
        logger.warn("the last traces and metrics may be lost", { error: describeError(error) });
      }
    },
  };
}

/** Tells the first of what comes all the time. */
function seldom(tell: (message: string) => void): (message: string) => void {
  let nextAt = 0;
  return (message) => {
    const now = performance.now();
    if (now < nextAt) return;
    nextAt = now + REPEAT_MS;
    tell(redact(message));
  };
}
