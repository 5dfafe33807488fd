/**
 * Waits for operations by the server's events: one websocket, whatever number of operations. An operation may end before its
 * id is known to us, so ends are remembered for a while; and one whose end fell into a pause of the websocket is asked for.
 */
import * as z from "zod";
import { FleetingdError, messageOf } from "../../errors.ts";
import type { ApiClient } from "../../host/api-client.ts";
import { sleep } from "../../host/wait.ts";
import { openWebSocket, type WebSocketOptions } from "../../host/websocket.ts";
import type { Logger } from "../../log.ts";
import { OperationError } from "./errors.ts";

export const operationSchema = z.object({
  id: z.string(),
  status_code: z.number(),
  err: z.string().nullish(),
});
export type Operation = z.infer<typeof operationSchema>;

const eventSchema = z.object({ type: z.string(), metadata: z.record(z.string(), z.unknown()) });

export interface OperationsOptions {
  api: ApiClient;
  /** Of the events. */
  websocket: Pick<WebSocketOptions, "url" | "socketPath" | "tls" | "timeoutMs">;
  /** Something else happened to an instance. */
  onLifecycle(): void;
  logger: Logger;
}

const SUCCESS = 200;
const FAILURE = 400;
const REMEMBERED = 1_000;
const FIRST_PAUSE_MS = 200;
/** Incus remembers an operation for five seconds after its end: as long as there are no events, it must be asked for within them. */
const LONGEST_PAUSE_MS = 2_000;

type Listener = (operation: Operation | Error) => void;

export class Operations {
  readonly #options: OperationsOptions;
  readonly #waiting = new Map<string, Listener>();
  /** Those that ended lately. */
  readonly #ended = new Map<string, Operation>();
  readonly #closed = new AbortController();
  #connection: Promise<void> | undefined;
  #disconnect: () => void = () => undefined;

  constructor(options: OperationsOptions) {
    this.#options = options;
  }

  /** Keeps a connection from now on. */
  listen(): void {
    this.#connection ??= this.#keepConnected();
  }

  /** @throws OperationError if it failed, FleetingdError if it can't be known whether it did, CANCELLED by the signal */
  async finish(operation: Operation, signal: AbortSignal): Promise<void> {
    this.listen();
    const ended = isEnded(operation) ? operation : await this.#end(operation.id, signal);
    if (ended.status_code === SUCCESS) return;
    throw new OperationError(ended.err || `the operation ended with status ${ended.status_code}`);
  }

  async close(): Promise<void> {
    this.#closed.abort();
    this.#disconnect();
    await this.#connection;
  }

  #end(id: string, signal: AbortSignal): Promise<Operation> {
    const known = this.#ended.get(id);
    if (known !== undefined) return Promise.resolve(known);
    return new Promise((resolve, reject) => {
      const stop = (): void => settle(new FleetingdError("CANCELLED", "cancelled while waiting for Incus"));
      const settle: Listener = (operation) => {
        this.#waiting.delete(id);
        signal.removeEventListener("abort", stop);
        if (operation instanceof Error) reject(operation);
        else resolve(operation);
      };
      this.#waiting.set(id, settle);
      if (signal.aborted) stop();
      else signal.addEventListener("abort", stop, { once: true });
    });
  }

  async #keepConnected(): Promise<void> {
    const { logger, websocket } = this.#options;
    const { signal } = this.#closed;
    for (let failures = 0; !signal.aborted; ) {
      try {
        let closed: (reason: string) => void = () => undefined;
        const untilClosed = new Promise<string>((resolve) => {
          closed = resolve;
        });
        this.#disconnect = await openWebSocket({
          ...websocket,
          onMessage: (text) => this.#receive(text),
          onClose: closed,
        });
        if (signal.aborted) this.#disconnect();
        failures = 0;
        void this.#askAll();
        const reason = await untilClosed;
        if (!signal.aborted) logger.debug("the events of Incus ended, and are asked for again", { reason });
      } catch (error) {
        logger.debug("the events of Incus can't be had", { error: messageOf(error) });
      }
      failures++;
      await this.#askAll();
      await this.#pause(Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** (failures - 1)));
    }
  }

  async #pause(ms: number): Promise<void> {
    try {
      await sleep(ms, this.#closed.signal);
    } catch (error) {
      if (!this.#closed.signal.aborted) throw error;
    }
  }

  #receive(text: string): void {
    const event = eventSchema.safeParse(parseJson(text));
    if (!event.success) return;
    if (event.data.type === "lifecycle") this.#options.onLifecycle();
    if (event.data.type !== "operation") return;
    const operation = operationSchema.safeParse(event.data.metadata);
    if (operation.success) this.#take(operation.data);
  }

  #take(operation: Operation): void {
    if (!isEnded(operation)) return;
    const listener = this.#waiting.get(operation.id);
    if (listener === undefined) this.#remember(operation);
    else listener(operation);
  }

  #remember(operation: Operation): void {
    this.#ended.set(operation.id, operation);
    const [oldest] = this.#ended.keys();
    if (this.#ended.size > REMEMBERED && oldest !== undefined) this.#ended.delete(oldest);
  }

  /** What ended while nobody listened is still known to the server for some seconds. */
  async #askAll(): Promise<void> {
    await Promise.all([...this.#waiting].map(([id, listener]) => this.#ask(id, listener)));
  }

  async #ask(id: string, listener: Listener): Promise<void> {
    try {
      const answer = await this.#options.api.request({ method: "GET", path: `/1.0/operations/${id}` });
      const { metadata } = z.object({ metadata: operationSchema }).parse(answer.json());
      this.#take(metadata);
    } catch (error) {
      const isUnknown = error instanceof FleetingdError && error.code === "NOT_FOUND";
      // Any other failure is one of the connection, which is tried again.
      if (isUnknown) {
        listener(
          new FleetingdError("UNAVAILABLE", "Incus was restarted meanwhile and knows nothing of it any more"),
        );
      }
    }
  }
}

function isEnded({ status_code }: Operation): boolean {
  return status_code === SUCCESS || status_code >= FAILURE;
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    // No event.
    return undefined;
  }
}
