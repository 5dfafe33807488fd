/** Serves metrics to Prometheus. It only reads. */
import type { IncomingMessage, ServerResponse } from "node:http";
import { FleetingdError, messageOf } from "../errors.ts";
import { formatAddress, type HttpServer, startHttpServer } from "../host/http-server.ts";
import type { Logger } from "../log.ts";
import type { Metrics } from "./metrics.ts";

export interface MetricsServerOptions {
  listen: { host: string; port: number };
  metrics: Pick<Metrics, "render" | "contentType">;
  logger: Logger;
}

const MAX_CONNECTIONS = 32;

/** @throws FleetingdError UNAVAILABLE */
export async function startMetricsServer({
  listen,
  metrics,
  logger,
}: MetricsServerOptions): Promise<HttpServer> {
  const address = formatAddress(listen);
  try {
    const server = await startHttpServer({
      listen,
      maxConnections: MAX_CONNECTIONS,
      answer: (request, response) => answer(request, response, metrics),
      onError: (error) => logger.error("metrics could not be read", { error: messageOf(error) }),
    });
    logger.info("metrics are served", { url: `http://${address}/metrics` });
    return server;
  } catch (error) {
    throw new FleetingdError("UNAVAILABLE", `metrics can't be served on ${address}: ${messageOf(error)}`, {
      hint: 'Set metrics_listen to an address of this host and a port that is free, or to "off".',
      cause: error,
    });
  }
}

async function answer(
  request: IncomingMessage,
  response: ServerResponse,
  metrics: MetricsServerOptions["metrics"],
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
  if (request.method !== "GET" && request.method !== "HEAD")
    return send(405, "Metrics can only be read.\n", { allow: "GET, HEAD" });
  if (request.url?.split("?", 1)[0] !== "/metrics") return send(404, "Metrics are at /metrics.\n");
  send(200, await metrics.render(), { "content-type": metrics.contentType });
}
