/**
 * Small HTTP servers of the daemon's own: so many connections, requests of so many bytes, within so much time. They answer
 * nobody who came by a name that is not this host's: a web page that points a name of its own at this address (DNS
 * rebinding) must not read them.
 */
import { once } from "node:events";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { isIP } from "node:net";
import { hostname } from "node:os";
import { listenOnUnixSocket } from "./unix-socket.ts";

export interface HttpServerOptions {
  /** A path is a unix socket that this process's user alone may use. */
  listen: { host: string; port: number } | { path: string };
  maxConnections: number;
  answer(request: IncomingMessage, response: ServerResponse): Promise<void>;
  /** Told of what `answer` has thrown; the client is told that it failed. */
  onError(error: unknown): void;
}

export interface HttpServer {
  /** Ends every connection, too. */
  close(): Promise<void>;
}

const REQUEST_TIMEOUT_MS = 10_000;
const MAX_HEADER_BYTES = 8 * 1024;

/** @throws the system error */
export async function startHttpServer(options: HttpServerOptions): Promise<HttpServer> {
  const limits = { requestTimeout: REQUEST_TIMEOUT_MS, maxHeaderSize: MAX_HEADER_BYTES };
  const server = createServer(limits, (request, response) => {
    const answered = isOwnHost(request.headers.host)
      ? options.answer(request, response)
      : refuse(response, 421, "This host is not known by that name.\n");
    answered.catch((error: unknown) => {
      options.onError(error);
      if (response.headersSent) response.destroy();
      else void refuse(response, 500, "This failed; the daemon's log says why.\n");
    });
  });
  server.maxConnections = options.maxConnections;
  const { listen } = options;
  if ("path" in listen) {
    // It must not be open to others between bind and chmod.
    const previous = process.umask(0o177);
    try {
      await listenOnUnixSocket(server, listen.path);
    } finally {
      process.umask(previous);
    }
  } else {
    server.listen(listen.port, listen.host);
    await once(server, "listening");
  }
  return { close: () => close(server) };
}

/** `127.0.0.1:9464`, `[::1]:9464` */
export function formatAddress({ host, port }: { host: string; port: number }): string {
  return `${host.includes(":") ? `[${host}]` : host}:${port}`;
}

async function refuse(response: ServerResponse, status: number, text: string): Promise<void> {
  response.writeHead(status, {
    "content-type": "text/plain; charset=utf-8",
    "x-content-type-options": "nosniff",
    "cache-control": "no-store",
  });
  response.end(text);
}

/** An address can't be rebound, and these names are nobody else's. */
function isOwnHost(header: string | undefined): boolean {
  const name = /^(?:\[([0-9a-f:.]+)\]|([^:[\]]+))(?::\d+)?$/i.exec(header ?? "");
  const host = (name?.[1] ?? name?.[2] ?? "").toLowerCase();
  const own = hostname().toLowerCase();
  return isIP(host) !== 0 || host === "localhost" || host === own || host === own.split(".", 1)[0];
}

async function close(server: Server): Promise<void> {
  const closed = once(server, "close");
  server.close();
  server.closeAllConnections();
  await closed;
}
