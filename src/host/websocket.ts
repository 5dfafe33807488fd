/** A server's messages over a websocket, for as long as it lives: a connection that has died is noticed by its silence. */
import { Agent } from "node:https";
import { WebSocket } from "ws";
import { FleetingdError, messageOf } from "../errors.ts";
import type { TlsOptions } from "./api-client.ts";

export interface WebSocketOptions {
  /** `wss://rack:8443/1.0/events`; over a unix socket only its path and query count. */
  url: string;
  socketPath?: string | undefined;
  tls?: TlsOptions | undefined;
  /** How long it may take to be open, and how long the server may be silent although it was asked. */
  timeoutMs: number;
  onMessage(text: string): void;
  /** Called once, whoever ended it. */
  onClose(reason: string): void;
}

const MAX_MESSAGE_BYTES = 16 * 1024 * 1024;

/** Resolves when it is open. @returns what ends it @throws FleetingdError UNAVAILABLE */
export async function openWebSocket(options: WebSocketOptions): Promise<() => void> {
  const { socketPath, tls, timeoutMs } = options;
  const { pathname, search } = new URL(options.url);
  const url = socketPath === undefined ? options.url : `ws+unix:${socketPath}:${pathname}${search}`;
  const socket = new WebSocket(url, {
    handshakeTimeout: timeoutMs,
    maxPayload: MAX_MESSAGE_BYTES,
    perMessageDeflate: false,
    ...(socketPath === undefined ? { agent: agentOf(tls) } : {}),
  });
  await new Promise<void>((resolve, reject) => {
    socket.once("open", resolve);
    socket.once("error", (error) =>
      reject(
        new FleetingdError("UNAVAILABLE", `no websocket to ${pathname}: ${messageOf(error)}`, {
          cause: error,
        }),
      ),
    );
  });
  let reason = "the server closed it";
  let heardAt = performance.now();
  const hear = (): void => {
    heardAt = performance.now();
  };
  const timer = setInterval(() => {
    if (performance.now() - heardAt > timeoutMs) {
      reason = `the server was silent for ${timeoutMs / 1000} s`;
      socket.terminate();
    } else socket.ping();
  }, timeoutMs / 3);
  socket.on("pong", hear);
  socket.on("ping", hear);
  socket.on("message", (data) => {
    hear();
    options.onMessage(String(data));
  });
  socket.on("error", (error) => {
    reason = messageOf(error);
  });
  socket.once("close", () => {
    clearInterval(timer);
    options.onClose(reason);
  });
  return () => socket.terminate();
}

function agentOf(tls: TlsOptions | undefined): Agent {
  const authority = tls?.serverCertificate ?? tls?.certificateAuthority;
  return new Agent({
    ...(authority === undefined ? {} : { ca: authority }),
    ...(tls?.serverCertificate === undefined ? {} : { checkServerIdentity: () => undefined }),
    ...(tls?.clientCertificate === undefined ? {} : { cert: tls.clientCertificate }),
    ...(tls?.clientKey === undefined ? {} : { key: tls.clientKey }),
    ...(tls?.insecure ? { rejectUnauthorized: false } : {}),
  });
}
