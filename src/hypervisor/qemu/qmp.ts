/**
 * A connection to QEMU's monitor socket.
 *
 * - QEMU talks to one client at a time: a second one is let in, but hears nothing until the first is gone.
 * - Every command has a deadline; a late answer is dropped by its id, and the connection stays usable.
 * - Anything that is not QMP ends the connection: after that no answer could be trusted.
 * - The connection's end usually is the first sign that the process ends.
 */
import type { Socket } from "node:net";
import { FleetingdError, messageOf } from "../../errors.ts";
import { connectUnixSocket } from "../../host/unix-socket.ts";
import { withTimeout } from "../../host/wait.ts";
import { parseQmpLine, type QmpEvent } from "./qmp-message.ts";

export interface QmpConnection {
  /** Settles once when the connection has ended, from whichever side; never rejects. */
  readonly closed: Promise<void>;
  /**
   * Runs a command and answers its result.
   * @throws FleetingdError TIMEOUT; UNAVAILABLE if the connection ends; HYPERVISOR_FAILED if QEMU refuses.
   */
  execute(command: string, options: { timeoutMs: number; arguments?: QmpArguments }): Promise<unknown>;
  close(): void;
}

export type QmpArguments = Readonly<Record<string, unknown>>;

interface Waiter {
  command: string;
  resolve(value: unknown): void;
  reject(error: Error): void;
}

const MAX_LINE_LENGTH = 1024 * 1024;
/** The greeting comes without being asked for, and without an id of its own. */
const GREETING_ID = 0;

/**
 * Connects, waits for the greeting and leaves the negotiation mode.
 * @throws the system error of the socket, or FleetingdError TIMEOUT, UNAVAILABLE or HYPERVISOR_FAILED.
 */
export async function connectQmp(
  socketPath: string,
  options: { timeoutMs: number; onEvent: (event: QmpEvent) => void },
): Promise<QmpConnection> {
  const deadline = performance.now() + options.timeoutMs;
  const connection = new Connection(await connectUnixSocket(socketPath, options.timeoutMs), options.onEvent);
  try {
    const left = (): number => Math.max(1, deadline - performance.now());
    await withTimeout(connection.greeted, left(), "QEMU's greeting (does another process hold its socket?)");
    await connection.execute("qmp_capabilities", { timeoutMs: left() });
    return connection;
  } catch (error) {
    connection.close();
    throw error;
  }
}

class Connection implements QmpConnection {
  readonly closed: Promise<void>;
  /** Settles when QEMU has greeted, or rejects when it never will. */
  readonly greeted: Promise<unknown>;
  readonly #socket: Socket;
  readonly #onEvent: (event: QmpEvent) => void;
  readonly #waiting = new Map<number, Waiter>();
  #buffered = "";
  #nextId = GREETING_ID + 1;
  #failure: Error | undefined;

  constructor(socket: Socket, onEvent: (event: QmpEvent) => void) {
    this.#socket = socket;
    this.#onEvent = onEvent;
    this.greeted = new Promise((resolve, reject) => {
      this.#waiting.set(GREETING_ID, { command: "greeting", resolve, reject });
    });
    // Nobody may be waiting when the connection ends.
    this.greeted.catch(() => undefined);
    this.closed = new Promise((resolve) => socket.once("close", () => resolve()));
    socket.setEncoding("utf8");
    socket.on("data", (text) => this.#receive(String(text)));
    socket.on("error", (error) => this.#fail(unavailable(messageOf(error), error)));
    socket.on("close", () => this.#fail(unavailable("the connection ended")));
    // The VM's connection alone must not keep this process running; a command's deadline does.
    socket.unref();
  }

  async execute(command: string, options: { timeoutMs: number; arguments?: QmpArguments }): Promise<unknown> {
    if (this.#failure !== undefined) throw this.#failure;
    const id = this.#nextId++;
    const answer = new Promise((resolve, reject) => this.#waiting.set(id, { command, resolve, reject }));
    this.#socket.write(
      `${JSON.stringify({ execute: command, id, ...(options.arguments === undefined ? {} : { arguments: options.arguments }) })}\n`,
    );
    try {
      return await withTimeout(answer, options.timeoutMs, `QEMU's answer to ${command}`);
    } finally {
      this.#waiting.delete(id);
    }
  }

  close(): void {
    this.#fail(unavailable("the connection was closed"));
  }

  #receive(text: string): void {
    this.#buffered += text;
    const lines = this.#buffered.split("\n");
    this.#buffered = lines.pop() ?? "";
    try {
      for (const line of lines) if (line.trim() !== "") this.#dispatch(line.trim());
      if (this.#buffered.length > MAX_LINE_LENGTH) {
        throw new FleetingdError(
          "HYPERVISOR_FAILED",
          `QEMU sent a line of more than ${MAX_LINE_LENGTH} characters`,
        );
      }
    } catch (error) {
      this.#fail(error instanceof Error ? error : new Error(String(error)));
    }
  }

  #dispatch(line: string): void {
    const message = parseQmpLine(line);
    // An unknown id is the late answer to a command whose deadline has passed.
    if (message.kind === "greeting") this.#waiting.get(GREETING_ID)?.resolve(undefined);
    else if (message.kind === "event") this.#onEvent(message.event);
    else if (message.kind === "result") this.#waiting.get(message.id)?.resolve(message.value);
    else this.#refused(message.id, message.description);
  }

  #refused(id: number | undefined, description: string): void {
    const command = id === undefined ? undefined : this.#waiting.get(id)?.command;
    const error = new FleetingdError(
      "HYPERVISOR_FAILED",
      `QEMU refused ${command ?? "a command"}: ${description}`,
    );
    // Without an id QEMU did not even understand the line, so every answer from here on is in doubt.
    if (id === undefined) this.#fail(error);
    else this.#waiting.get(id)?.reject(error);
  }

  #fail(error: Error): void {
    if (this.#failure !== undefined) return;
    this.#failure = error;
    for (const waiter of this.#waiting.values()) waiter.reject(error);
    this.#waiting.clear();
    this.#socket.destroy();
  }
}

function unavailable(reason: string, cause?: unknown): FleetingdError {
  return new FleetingdError("UNAVAILABLE", `QEMU's monitor cannot be reached: ${reason}`, { cause });
}
