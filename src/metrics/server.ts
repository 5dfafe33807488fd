/**
 * Serves metrics to Prometheus. It only reads, and answers nobody who came by a name that is not this host's: a web page
 * that points a name of its own at this address (DNS rebinding) must not read them.
 */
import { once } from "node:events";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { isIP } from "node:net";
import { hostname } from "node:os";
import { FleetingdError, messageOf } from "../errors.ts";
import type { Logger } from "../log.ts";
import type { Metrics } from "./metrics.ts";

export interface MetricsServer {
  close(): Promise<void>;
}

export interface MetricsServerOptions {
  listen: { host: string; port: number };
  metrics: Pick<Metrics, "render" | "contentType">;
  logger: Logger;
}

const REQUEST_TIMEOUT_MS = 10_000;
const MAX_CONNECTIONS = 32;
const MAX_HEADER_BYTES = 8 * 1024;

/** @throws FleetingdError UNAVAILABLE */
export async function startMetricsServer(options: MetricsServerOptions): Promise<MetricsServer> {
  const { listen, logger } = options;
  const limits = { requestTimeout: REQUEST_TIMEOUT_MS, maxHeaderSize: MAX_HEADER_BYTES };
  const server = createServer(limits, (request, response) => void answer(request, response, options));
  server.maxConnections = MAX_CONNECTIONS;
  const address = `${listen.host.includes(":") ? `[${listen.host}]` : listen.host}:${listen.port}`;
  try {
    server.listen(listen.port, listen.host);
    await once(server, "listening");
  } catch (error) {
    throw new FleetingdError("UNAVAILABLE", `metrics can't be served on ${address}: ${messageOf(error)}`, {
      hint: 'Set metrics_listen to an address of this host and a port that is free, or to "off".',
      cause: error,
    });
  }
  logger.info("metrics are served", { url: `http://${address}/metrics` });
  return { close: () => close(server) };
}

async function answer(
  request: IncomingMessage,
  response: ServerResponse,
  { metrics, logger }: MetricsServerOptions,
): Promise<void> {
  const send = (status: number, text: string, headers: Readonly<Record<string, string>> = {}): void => {
    response.writeHead(status, {
      "content-type": "text/plain; charset=utf-8",
      "x-content-type-options": "nosniff",
      "cache-control": "no-store",
      ...headers,
    });
    response.end(request.method === "HEAD" ? undefined : text);
  };
  if (!isOwnHost(request.headers.host)) return send(421, "This host is not known by that name.\n");
  if (request.method !== "GET" && request.method !== "HEAD")
    return send(405, "Metrics can only be read.\n", { allow: "GET, HEAD" });
  if (request.url?.split("?", 1)[0] !== "/metrics") return send(404, "Metrics are at /metrics.\n");
  try {
    send(200, await metrics.render(), { "content-type": metrics.contentType });
  } catch (error) {
    logger.error("metrics could not be read", { error: messageOf(error) });
    send(500, "Metrics could not be read; the daemon's log says why.\n");
  }
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
