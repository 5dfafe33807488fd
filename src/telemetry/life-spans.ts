/**
 * The life of each instance as a trace: one span from its first step to its end, and below it one for each phase.
 *
 * What a span is called by follows from the instance, so that a daemon that takes an instance over goes on with its trace. A span
 * is told of when it ends; what has not ended when the daemon stops is told of by the next one.
 */
import { createHash } from "node:crypto";
import {
  type Context,
  ROOT_CONTEXT,
  type Span,
  SpanStatusCode,
  type Tracer,
  trace,
} from "@opentelemetry/api";
import type { DaemonEvent } from "../events.ts";

type Of<Kind extends DaemonEvent["kind"]> = Extract<DaemonEvent, { kind: Kind }>;
type LifeEvent = Extract<DaemonEvent, { instance: string }>;

const WHOLE = "instance";
const TRACE_ID_LENGTH = 32;
const SPAN_ID_LENGTH = 16;

interface Life {
  whole: Span;
  context: Context;
  phase: Span | undefined;
  /** How many phases of each name there were: one may be gone through again. */
  counts: Map<string, number>;
  isReady: boolean;
  group: string | undefined;
}

/** Gives the spans of a trace the ids that follow from their instance. */
export class LifeIds {
  #traceId = "";
  #spanId = "";

  /** What the next span is. */
  set(instance: string, name: string): void {
    this.#traceId = hash(instance).slice(0, TRACE_ID_LENGTH);
    this.#spanId = hash(`${instance}/${name}`).slice(0, SPAN_ID_LENGTH);
  }

  generateTraceId(): string {
    return this.#traceId;
  }

  generateSpanId(): string {
    return this.#spanId;
  }
}

function hash(text: string): string {
  return createHash("sha256").update(text).digest("hex");
}

export class LifeSpans {
  readonly #tracer: Tracer;
  readonly #ids: LifeIds;
  readonly #lives = new Map<string, Life>();

  constructor(tracer: Tracer, ids: LifeIds) {
    this.#tracer = tracer;
    this.#ids = ids;
  }

  /** Takes note of what happens now. */
  observe(event: DaemonEvent): void {
    if (!("instance" in event)) return;
    if (event.kind === "creating") this.#begin(event, event.group, new Date());
    else if (event.kind === "adopted") this.#goOn(event);
    else {
      const life = this.#lives.get(event.instance);
      if (life !== undefined) this.#happen(life, event);
    }
  }

  #begin({ pool, instance }: { pool: string; instance: string }, group: string | undefined, at: Date): Life {
    this.#ids.set(instance, WHOLE);
    const attributes = { "fleetingd.pool": pool, "fleetingd.instance": instance };
    const whole = this.#tracer.startSpan(WHOLE, { root: true, startTime: at, attributes }, ROOT_CONTEXT);
    const context = trace.setSpan(ROOT_CONTEXT, whole);
    const life = { whole, context, phase: undefined, counts: new Map(), isReady: false, group: undefined };
    this.#lives.set(instance, life);
    if (group !== undefined) claim(life, group);
    return life;
  }

  /** What an earlier daemon has begun; the phases that have ended are told already. */
  #goOn(event: Of<"adopted">): void {
    const { instance, createdAt, readyAt, claimedAt, group, alive } = event;
    const life = this.#begin(event, group, new Date(createdAt));
    life.whole.addEvent("adopted", { "fleetingd.alive": alive });
    if (readyAt === undefined) return;
    life.isReady = true;
    if (claimedAt === undefined) this.#next(life, instance, "warm", new Date(readyAt));
    else this.#next(life, instance, "claimed", new Date(Math.max(claimedAt, readyAt)));
  }

  #happen(life: Life, event: Exclude<LifeEvent, Of<"creating" | "adopted">>): void {
    const { instance } = event;
    switch (event.kind) {
      case "phase":
        this.#next(life, instance, event.phase);
        break;
      case "ready":
        life.isReady = true;
        this.#next(life, instance, life.group === undefined ? "warm" : "claimed");
        break;
      case "claimed":
        claim(life, event.group);
        if (life.isReady) this.#next(life, instance, "claimed");
        break;
      case "failed":
        fail(life, event.error);
        this.#next(life, instance, "removing");
        break;
      case "ending":
        life.whole.setAttribute("fleetingd.cause", event.cause);
        if (event.cause === "lost") fail(life, event.reason ?? "it ended by itself");
        this.#next(life, instance, "removing");
        break;
      case "deleted":
        life.phase?.end();
        life.whole.end();
        this.#lives.delete(instance);
        break;
      default:
        life.whole.addEvent(event.kind, textsOf(event));
    }
  }

  /** Ends the phase that there is, and begins another. */
  #next(life: Life, instance: string, name: string, at = new Date()): void {
    life.phase?.end(at);
    const count = (life.counts.get(name) ?? 0) + 1;
    life.counts.set(name, count);
    this.#ids.set(instance, count === 1 ? name : `${name}#${count}`);
    life.phase = this.#tracer.startSpan(name, { startTime: at }, life.context);
  }
}

function claim(life: Life, group: string): void {
  life.group = group;
  life.whole.setAttribute("fleetingd.group", group);
}

function fail({ whole, phase }: Life, message: string): void {
  for (const span of [whole, phase]) span?.setStatus({ code: SpanStatusCode.ERROR, message });
}

/** What an event says besides whose it is. */
function textsOf({ kind, pool, instance, ...rest }: LifeEvent): Record<string, string | number> {
  const entries = Object.entries(rest).filter(
    (entry): entry is [string, string | number] =>
      typeof entry[1] === "string" || typeof entry[1] === "number",
  );
  return Object.fromEntries(entries.map(([key, value]) => [`fleetingd.${key}`, value]));
}
