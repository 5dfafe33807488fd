/** The daemon's gRPC service: each call translates to the pool's requests and answers from memory. */
import type { ServerWritableStream } from "@grpc/grpc-js";
import { FleetingdError } from "../errors.ts";
import type { EventSink } from "../events.ts";
import {
  type AttachReply,
  type AttachRequest,
  type DaemonServer,
  type HistoryReply,
  type HistoryRequest,
  type PrebuildProgress,
  InstanceState as WireState,
} from "../gen/fleetingd.ts";
import type { Logger } from "../log.ts";
import type { Pool } from "../pool/pool.ts";
import type { InstanceView } from "../pool/view.ts";
import { limitedCalls, type OnCall, toServiceError } from "./calls.ts";
import type { Groups } from "./groups.ts";
import type { GcReport, ImageList } from "./images.ts";
import type { DaemonStatus } from "./status.ts";

/** What has happened, as objects that JSON can hold. */
export interface History {
  /** Oldest first; of one instance, or all. */
  list(instance?: string): readonly object[];
  /** @returns what ends it */
  follow(instance: string | undefined, follower: (entry: object) => void): () => void;
}

/** What the service needs of the daemon. */
export interface DaemonFacade {
  version: string;
  /** The pool that a plugin's configuration (JSON) means; makes an inline one. @throws INVALID_CONFIG */
  poolFor(pluginConfigJson: string): Promise<{ pool: Pool; group: string | undefined }>;
  status(): Promise<DaemonStatus>;
  /** Makes new golden images; `pool` empty means all. */
  prebuild(
    request: { pool: string; force: boolean; signal: AbortSignal },
    onProgress: (progress: { pool: string; message: string; goldenImage?: string }) => void,
  ): Promise<void>;
  images(): Promise<ImageList>;
  /** Removes images that nobody needs. */
  collectGarbage(request: { dryRun: boolean }): Promise<GcReport>;
  /** In Prometheus' text format. */
  metrics(): Promise<string>;
  onCall: OnCall;
  events: EventSink;
  /** What is kept of events and of the log. */
  history: { events: History; logs: History };
  /** Holds all pools and resolves when no instance is left, or gives them free again. */
  drain(request: { held: boolean; signal: AbortSignal }, onProgress: (left: number) => void): Promise<void>;
  /** Ends an instance, whoever has it. @throws FleetingdError NOT_FOUND */
  remove(instance: string): Promise<void>;
}

const WIRE_STATES: Readonly<Record<InstanceView["state"], WireState>> = {
  creating: WireState.INSTANCE_CREATING,
  ready: WireState.INSTANCE_RUNNING,
  deleting: WireState.INSTANCE_DELETING,
  failed: WireState.INSTANCE_TIMEOUT,
};

/** Every plugin that is attached has one call open, and mostly no other. */
const MAX_CALLS = 512;

export function createDaemonService(daemon: DaemonFacade, groups: Groups, logger: Logger): DaemonServer {
  const { unary, streaming } = limitedCalls(MAX_CALLS, daemon.onCall);
  return {
    attach: streaming((call) => attach(call, daemon, groups, logger)),
    listInstances: unary("listInstances", async ({ group }) => ({
      instances: groups
        .get(group)
        .pool.list(group)
        .map((instance) => ({
          id: instance.id,
          state: WIRE_STATES[instance.state],
          lastError: instance.lastError ?? "",
        })),
    })),
    increase: unary("increase", async ({ group, n }) => {
      const { accepted, reason } = await groups.get(group).pool.claim(group, n);
      if (reason !== undefined) logger.warn(claimProblem(n, accepted), { group, n, accepted, reason });
      return { accepted, reason: reason ?? "" };
    }),
    decrease: unary("decrease", async ({ group, ids }) => ({
      ids: await groups.get(group).pool.release(group, ids),
    })),
    connectInfo: unary("connectInfo", async ({ group, id }) => {
      const { pool } = groups.get(group);
      const info = pool.connectInfo(group, id);
      daemon.events({ kind: "connected", pool: pool.name, instance: id, group });
      logger.info("connection info asked for", { group, instance: id, stage: "CONNECT" });
      return {
        os: info.os,
        arch: info.arch,
        protocol: info.protocol,
        username: info.username,
        password: info.password ?? "",
        key: Buffer.from(info.privateKey),
        externalAddress: info.address,
        internalAddress: info.address,
        port: info.port,
        expires: 0n,
      };
    }),
    heartbeat: unary("heartbeat", async ({ group, id }) => {
      groups.get(group).pool.heartbeat(group, id);
      return {};
    }),
    status: unary("status", async () => ({ json: JSON.stringify(await daemon.status()) })),
    images: unary("images", async () => ({ json: JSON.stringify(await daemon.images()) })),
    collectGarbage: unary("collectGarbage", async ({ dryRun }) => ({
      json: JSON.stringify(await daemon.collectGarbage({ dryRun })),
    })),
    remove: unary("remove", async ({ id }) => {
      await daemon.remove(id);
      return {};
    }),
    metrics: unary("metrics", async () => ({ text: await daemon.metrics() })),
    events: streaming((call) => tell(call, daemon.history.events)),
    logs: streaming((call) => tell(call, daemon.history.logs)),
    drain: streaming(async (call: ServerWritableStream<{ undo: boolean }, { left: number }>) => {
      await daemon.drain({ held: !call.request.undo, signal: cancellation(call) }, (left) =>
        call.write({ left }),
      );
      call.end();
    }),
    prebuild: streaming(
      async (call: ServerWritableStream<{ pool: string; force: boolean }, PrebuildProgress>) => {
        const { pool, force } = call.request;
        await daemon.prebuild({ pool, force, signal: cancellation(call) }, (progress) =>
          call.write({ goldenImage: "", ...progress }),
        );
        call.end();
      },
    ),
  };
}

function claimProblem(n: number, accepted: number): string {
  return accepted < n ? "accepted fewer instances than asked for" : "what was accepted has to wait";
}

/** How many entries may wait for a reader that is slower than the daemon. */
const MAX_WAITING = 10_000;

async function tell(
  call: ServerWritableStream<HistoryRequest, HistoryReply>,
  history: History,
): Promise<void> {
  const { instance: wanted, follow } = call.request;
  const instance = wanted === "" ? undefined : wanted;
  const write = (entry: object): boolean => call.write({ json: JSON.stringify(entry) });
  for (const entry of history.list(instance)) write(entry);
  if (!follow) return void call.end();
  let waiting = 0;
  call.on("drain", () => {
    waiting = 0;
  });
  const stop = history.follow(instance, (entry) => {
    waiting = write(entry) ? 0 : waiting + 1;
    if (waiting <= MAX_WAITING) return;
    stop();
    call.emit("error", toServiceError(new FleetingdError("EXHAUSTED", "whoever reads this is too slow")));
  });
  call.once("cancelled", stop);
}

/** Aborted when the caller has gone. */
function cancellation(call: { once(event: "cancelled", listener: () => void): unknown }): AbortSignal {
  const controller = new AbortController();
  call.once("cancelled", () => controller.abort());
  return controller.signal;
}

async function attach(
  call: ServerWritableStream<AttachRequest, AttachReply>,
  daemon: DaemonFacade,
  groups: Groups,
  logger: Logger,
): Promise<void> {
  const { pool, group: wanted } = await daemon.poolFor(call.request.pluginConfig);
  if (call.cancelled) return;
  const group = groups.attach(pool, wanted, call.request.group === "" ? undefined : call.request.group);
  const attachment = { pool: pool.name, group: group.name };
  logger.info("a plugin attached", { group: group.name, stage: "INIT" });
  daemon.events({ kind: "attached", ...attachment });
  call.once("cancelled", () => {
    groups.detach(group);
    daemon.events({ kind: "detached", ...attachment });
    logger.info("a plugin detached", { group: group.name });
  });
  call.write({
    group: group.name,
    pool: pool.name,
    maxSize: pool.settings.maxInstances,
    version: daemon.version,
  });
}
