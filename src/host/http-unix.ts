/** HTTP over a unix socket, whatever the length of its path: one connection, one call at a time. */
import { Agent } from "node:http";
import type { Duplex } from "node:stream";
import got from "got";
import { FleetingdError, messageOf, systemErrorCode } from "../errors.ts";
import { connectUnixSocket } from "./unix-socket.ts";

export interface HttpAnswer {
  status: number;
  body: string;
}

export interface UnixHttpClient {
  /**
   * Any status is an answer.
   * @param body sent as JSON; undefined: nothing at all
   * @throws the system error if nobody listens (`ENOENT`, `ECONNREFUSED`); FleetingdError TIMEOUT, UNAVAILABLE
   */
  request(method: "GET" | "PUT", path: string, timeoutMs: number, body?: object): Promise<HttpAnswer>;
  close(): void;
}

const NOBODY_LISTENS = new Set(["ENOENT", "ECONNREFUSED"]);

/** @param onLost the connection, which stays open between calls, has ended: often the first sign that the server has */
export function createUnixHttpClient(socketPath: string, onLost: () => void): UnixHttpClient {
  const agent = new UnixAgent(socketPath, onLost);
  return {
    async request(method, path, timeoutMs, body) {
      try {
        const { statusCode, body: text } = await got(`http://localhost${path}`, {
          method,
          agent: { http: agent },
          throwHttpErrors: false,
          followRedirect: false,
          retry: { limit: 0 },
          timeout: { request: timeoutMs },
          responseType: "text",
          ...(body === undefined ? {} : { json: body }),
        });
        return { status: statusCode, body: text };
      } catch (error) {
        throw failure(error, `${method} ${path}`, timeoutMs);
      }
    },
    close: () => agent.destroy(),
  };
}

class UnixAgent extends Agent {
  readonly #socketPath: string;
  readonly #onLost: () => void;

  constructor(socketPath: string, onLost: () => void) {
    super({ keepAlive: true, maxSockets: 1 });
    this.#socketPath = socketPath;
    this.#onLost = onLost;
  }

  override createConnection(
    { timeout }: { timeout?: number },
    callback?: (error: Error | null, stream: Duplex) => void,
  ): undefined {
    // The type knows no connection that failed.
    const fail = callback as unknown as (error: Error) => void;
    connectUnixSocket(this.#socketPath, timeout ?? CONNECT_TIMEOUT_MS).then(
      (socket) => {
        socket.once("close", this.#onLost);
        callback?.(null, socket);
      },
      (error: Error) => fail(error),
    );
  }
}

const CONNECT_TIMEOUT_MS = 5_000;

function failure(error: unknown, call: string, timeoutMs: number): unknown {
  const code = systemErrorCode(error) ?? "";
  if (NOBODY_LISTENS.has(code)) return error;
  if (code === "ETIMEDOUT") {
    const message = `timed out after ${timeoutMs / 1000} s waiting for the answer to ${call}`;
    return new FleetingdError("TIMEOUT", message, { cause: error });
  }
  return new FleetingdError("UNAVAILABLE", `${call} failed: ${messageOf(error)}`, { cause: error });
}
