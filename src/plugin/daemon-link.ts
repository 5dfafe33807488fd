/**
 * The plugin's one connection to the daemon.
 *
 * ```
 *  start ──▶ attaching ── first reply ──▶ attached ── stream ends ──▶ away ── backoff ──▶ attaching …
 *                └── refused before it was ever attached: start throws, and the link is closed
 *  close: from any state, for good
 * ```
 *
 * The group is ours for as long as the Attach stream is open. After a restart of the daemon the same group is asked for
 * with the same configuration. While away, calls are answered with UNAVAILABLE and the reason; none is queued.
 */
import { EventEmitter, once } from "node:events";
import { type ClientReadableStream, credentials, status as Status } from "@grpc/grpc-js";
import { type AttachReply, DaemonClient } from "../gen/fleetingd.ts";
import { sleep } from "../host/wait.ts";
import type { Logger } from "../log.ts";
import { backoffMs } from "./backoff.ts";
import { probeDaemon } from "./daemon-error.ts";
import { StatusError, toStatusError } from "./status-error.ts";

export interface DaemonLinkOptions {
  socketPath: string;
  /** JSON, as the host sent it. */
  pluginConfig: string;
  logger: Logger;
  /** How long `start` waits for a daemon that is not there yet: both may be starting with the host. */
  startWaitMs: number;
}

interface Attachment {
  client: DaemonClient;
  stream: ClientReadableStream<AttachReply>;
  reply: AttachReply;
}

// The host gives Init and its first Update one minute together.
const ATTACH_TIMEOUT_MS = 20_000;
const MAX_BACKOFF_MS = 5_000;
const RETRY_CALL_MS = 100;
const REMIND_MS = 60_000;

export class DaemonLink {
  readonly #options: DaemonLinkOptions;
  readonly #closing = new AbortController();
  readonly #events = new EventEmitter();
  #attachment: Attachment | undefined;
  #group = "";
  #awayReason = new StatusError(Status.UNAVAILABLE, "the plugin is not attached to the fleetingd daemon yet");

  constructor(options: DaemonLinkOptions) {
    this.#options = options;
    // Each call that waits listens; there are as many as the host makes.
    this.#events.setMaxListeners(0);
  }

  /**
   * Attaches for the first time.
   * @throws StatusError: the daemon's own (INVALID_ARGUMENT, …), UNAVAILABLE, PERMISSION_DENIED
   */
  async start(): Promise<AttachReply> {
    const deadline = performance.now() + this.#options.startWaitMs;
    for (let attempt = 0; ; attempt++) {
      try {
        return await this.#attach();
      } catch (error) {
        const failure = toStatusError(error);
        if (failure.code !== Status.UNAVAILABLE || performance.now() >= deadline) {
          this.close();
          throw failure;
        }
        if (attempt === 0) this.#options.logger.warn(`${failure.message}; waiting for it`);
        await this.#pause(backoffMs(attempt, 1_000));
      }
    }
  }

  /**
   * Runs `work` with the daemon. While there is none it waits for up to `waitMs` and tries again, so more than 0 is only
   * for what may be repeated.
   * @throws StatusError
   */
  async call<Reply>(
    work: (client: DaemonClient, group: string) => Promise<Reply>,
    waitMs = 0,
  ): Promise<Reply> {
    const deadline = performance.now() + waitMs;
    for (;;) {
      const attachment = this.#attachment ?? (await this.#waitUntilAttached(deadline - performance.now()));
      try {
        return await work(attachment.client, attachment.reply.group);
      } catch (error) {
        const failure = this.#explain(toStatusError(error));
        if (failure.code !== Status.UNAVAILABLE || performance.now() >= deadline) throw failure;
        await this.#pause(RETRY_CALL_MS);
      }
    }
  }

  /** Gives the group up. Instances stay as they are. */
  close(): void {
    this.#closing.abort();
    this.#awayReason = new StatusError(Status.UNAVAILABLE, "the plugin is ending");
    const attachment = this.#attachment;
    this.#attachment = undefined;
    attachment?.stream.cancel();
    attachment?.client.close();
  }

  async #attach(): Promise<AttachReply> {
    const { socketPath, pluginConfig } = this.#options;
    await probeDaemon(socketPath);
    this.#throwIfClosed();
    // A client for each attempt: grpc-js would add a backoff of its own to ours.
    const client = new DaemonClient(`unix:${socketPath}`, credentials.createInsecure(), {
      "grpc.max_receive_message_length": -1,
      "grpc.max_send_message_length": -1,
      "grpc.use_local_subchannel_pool": 1,
      "grpc.enable_http_proxy": 0,
    });
    const stream = client.attach({ pluginConfig, group: this.#group });
    let over = false;
    stream.once("status", () => {
      over = true;
      if (this.#attachment?.stream === stream) this.#lost(this.#attachment);
    });
    try {
      const reply = await firstReply(stream);
      this.#throwIfClosed();
      if (over)
        throw new StatusError(Status.UNAVAILABLE, "the fleetingd daemon ended as soon as it had answered");
      this.#becomeAttached({ client, stream, reply });
      return reply;
    } catch (error) {
      stream.cancel();
      client.close();
      throw error;
    }
  }

  #becomeAttached(attachment: Attachment): void {
    const { reply } = attachment;
    if (this.#group !== "" && this.#group !== reply.group) {
      this.#options.logger.warn(
        "the daemon gave another group than before; the runner will lose its instances",
        {
          before: this.#group,
          now: reply.group,
        },
      );
    }
    this.#group = reply.group;
    this.#attachment = attachment;
    this.#events.emit("attached", attachment);
  }

  #lost(attachment: Attachment): void {
    this.#attachment = undefined;
    attachment.client.close();
    this.#awayReason = new StatusError(
      Status.UNAVAILABLE,
      `the fleetingd daemon on ${this.#options.socketPath} went away; the plugin reconnects by itself`,
    );
    this.#options.logger.warn(this.#awayReason.message);
    this.#attachAgain().catch((error: unknown) => {
      if (!this.#closing.signal.aborted) this.#options.logger.error(toStatusError(error).message);
    });
  }

  async #attachAgain(): Promise<void> {
    const { logger } = this.#options;
    let logged = "";
    let loggedAt = 0;
    for (let attempt = 0; ; attempt++) {
      await sleep(backoffMs(attempt, MAX_BACKOFF_MS), this.#closing.signal);
      try {
        const { group } = await this.#attach();
        logger.info("attached to the fleetingd daemon again", { group, attempts: attempt + 1 });
        return;
      } catch (error) {
        this.#throwIfClosed();
        const { message } = toStatusError(error);
        this.#awayReason = new StatusError(
          Status.UNAVAILABLE,
          `the plugin lost the fleetingd daemon and tries to reconnect: ${message}`,
        );
        if (message === logged && performance.now() - loggedAt < REMIND_MS) continue;
        logger.warn(this.#awayReason.message, { attempts: attempt + 1 });
        logged = message;
        loggedAt = performance.now();
      }
    }
  }

  async #waitUntilAttached(timeoutMs: number): Promise<Attachment> {
    if (timeoutMs <= 0 || this.#closing.signal.aborted) throw this.#awayReason;
    const signal = AbortSignal.any([this.#closing.signal, AbortSignal.timeout(Math.ceil(timeoutMs))]);
    try {
      const [attachment] = (await once(this.#events, "attached", { signal })) as [Attachment];
      return attachment;
    } catch (error) {
      if (signal.aborted) throw this.#awayReason;
      throw error;
    }
  }

  #explain(failure: StatusError): StatusError {
    const { socketPath } = this.#options;
    switch (failure.code) {
      case Status.UNAVAILABLE:
        return new StatusError(
          Status.UNAVAILABLE,
          `the fleetingd daemon on ${socketPath} went away (${failure.message}); the plugin reconnects by itself`,
        );
      case Status.DEADLINE_EXCEEDED:
        return new StatusError(
          Status.DEADLINE_EXCEEDED,
          `the fleetingd daemon on ${socketPath} did not answer in time (${failure.message}); see "fleetingd status"`,
        );
      default:
        return failure;
    }
  }

  async #pause(ms: number): Promise<void> {
    try {
      await sleep(ms, this.#closing.signal);
    } catch (error) {
      this.#throwIfClosed();
      throw error;
    }
  }

  #throwIfClosed(): void {
    if (this.#closing.signal.aborted) throw this.#awayReason;
  }
}

/** The reply that says "attached". Later errors of the stream arrive as its end; they must not be unhandled. */
function firstReply(stream: ClientReadableStream<AttachReply>): Promise<AttachReply> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => {
      reject(
        new StatusError(
          Status.DEADLINE_EXCEEDED,
          `the fleetingd daemon did not answer within ${ATTACH_TIMEOUT_MS / 1000} s; see "systemctl status fleetingd"`,
        ),
      );
    }, ATTACH_TIMEOUT_MS);
    stream.on("error", reject);
    stream.once("end", () =>
      reject(new StatusError(Status.UNAVAILABLE, "the fleetingd daemon ended before it answered")),
    );
    stream.once("data", resolve);
    for (const event of ["error", "end", "data"]) stream.once(event, () => clearTimeout(timer));
    // Its end is only seen by whoever reads on.
    stream.resume();
  });
}
