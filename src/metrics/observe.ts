/** Translates events into metrics: the one place that knows both. */
import type { DaemonEvent, EventSink } from "../events.ts";
import type { Instruments } from "./instruments.ts";

export function createObserver(metrics: Instruments): EventSink {
  return (event: DaemonEvent) => {
    switch (event.kind) {
      case "ready":
        return observeReady(metrics, event);
      case "failed":
        return metrics.failures.inc({ pool: event.pool, operation: "create", phase: event.phase });
      case "retry": {
        const operation = event.state === "creating" ? "create" : "delete";
        return metrics.failures.inc({ pool: event.pool, operation, phase: "" });
      }
      case "ending":
        if (event.cause === "lost") metrics.failures.inc({ pool: event.pool, operation: "run", phase: "" });
        return;
      case "deleted":
        metrics.deleted.inc({ pool: event.pool });
        return metrics.deletionSeconds.observe({ pool: event.pool }, event.seconds);
      case "fell-back":
        return metrics.fallbacks.inc({ pool: event.pool, to: event.to });
      case "claimed":
        metrics.claimed.inc({ pool: event.pool, from: event.from });
        if (event.from === "warm") metrics.claimWaitSeconds.observe({ pool: event.pool }, 0);
        return;
      case "woken":
        if (event.waitSeconds !== undefined)
          metrics.claimWaitSeconds.observe({ pool: event.pool }, event.waitSeconds);
        return metrics.wakeSeconds.observe({ pool: event.pool }, event.seconds);
      case "claim":
        return metrics.claimSeconds.observe({ pool: event.pool }, event.seconds);
      case "rejected":
        return metrics.rejected.inc({ pool: event.pool, limit: event.limit }, event.rejected);
      case "held-back":
        return metrics.breakerTrips.inc({ pool: event.pool });
      case "image-ready":
        return observeImage(metrics, event);
      case "image-failed":
        return metrics.prebuilds.inc({ pool: event.pool, result: "failed" });
      case "images-removed":
        metrics.gcRuns.inc();
        metrics.gcRemoved.inc(event.count);
        metrics.gcBytes.inc(event.bytes);
        return metrics.gcSeconds.observe(event.seconds);
      case "leftover-removed":
        return metrics.leftovers.inc({ what: event.what });
      default:
        // The others only show how something is on its way; where it ends up is counted.
        return;
    }
  };
}

function observeReady(metrics: Instruments, event: Extract<DaemonEvent, { kind: "ready" }>): void {
  const { pool, seconds, phases, waitSeconds } = event;
  metrics.created.inc({ pool });
  metrics.creationSeconds.observe({ pool }, seconds);
  for (const phase of phases) metrics.phaseSeconds.observe({ pool, phase: phase.name }, phase.seconds);
  if (waitSeconds !== undefined) metrics.claimWaitSeconds.observe({ pool }, waitSeconds);
}

function observeImage(metrics: Instruments, event: Extract<DaemonEvent, { kind: "image-ready" }>): void {
  const { pool, made, baseSeconds, prebuildSeconds } = event;
  metrics.prebuilds.inc({ pool, result: made ? "made" : "found" });
  if (!made) return;
  metrics.prebuildSeconds.observe({ pool, part: "base" }, baseSeconds);
  metrics.prebuildSeconds.observe({ pool, part: "prebuild" }, prebuildSeconds);
}
