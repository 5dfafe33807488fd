/** A receiver of OpenTelemetry's, by HTTP, as a collector is one: it keeps what it is sent. */
import { once } from "node:events";
import { createServer, type IncomingHttpHeaders } from "node:http";
import type { AddressInfo } from "node:net";

interface Value {
  stringValue?: string;
  boolValue?: boolean;
}
export interface Attributed {
  attributes?: { key: string; value: Value }[];
}
export interface Span extends Attributed {
  traceId: string;
  spanId: string;
  parentSpanId?: string;
  name: string;
  startTimeUnixNano: string;
  endTimeUnixNano: string;
  status: { code?: number; message?: string };
  events: (Attributed & { name: string })[];
}
export interface Point extends Attributed {
  asDouble?: number;
  count?: number | string;
  sum?: number;
  bucketCounts?: (number | string)[];
  explicitBounds?: number[];
}
export interface Metric {
  name: string;
  sum?: { isMonotonic: boolean; aggregationTemporality: number; dataPoints: Point[] };
  gauge?: { dataPoints: Point[] };
  histogram?: { dataPoints: Point[] };
}
/** In JSON; the same in protobuf is the reader's to read. */
export interface Body {
  resourceSpans?: { resource: Attributed; scopeSpans: { spans: Span[] }[] }[];
  resourceMetrics?: { resource: Attributed; scopeMetrics: { metrics: Metric[] }[] }[];
}
export interface Received {
  path: string;
  headers: IncomingHttpHeaders;
  body: Buffer;
}

export interface OtlpReceiver {
  /** Its address on the loopback. */
  readonly endpoint: string;
  readonly received: Received[];
  /** A status, or none at all; 200 at first. */
  answer: number | "never";
  close(): void;
}

export async function startOtlpReceiver(): Promise<OtlpReceiver> {
  const server = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on("data", (chunk: Buffer) => chunks.push(chunk));
    request.on("end", () => {
      const { url = "", headers } = request;
      receiver.received.push({ path: url, headers, body: Buffer.concat(chunks) });
      if (receiver.answer !== "never")
        response.writeHead(receiver.answer, { "content-type": "application/json" }).end("{}");
    });
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  const receiver: OtlpReceiver = {
    endpoint: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    received: [],
    answer: 200,
    close() {
      server.closeAllConnections();
      server.close();
    },
  };
  return receiver;
}

/** What of these came to this path, in JSON. */
export function bodiesAt(received: readonly Received[], path: string): Body[] {
  return received
    .filter((one) => one.path === path)
    .map(({ body }) => JSON.parse(body.toString("utf8")) as Body);
}

export function spansIn(bodies: readonly Body[]): Span[] {
  return bodies.flatMap(({ resourceSpans = [] }) =>
    resourceSpans.flatMap(({ scopeSpans }) => scopeSpans.flatMap(({ spans }) => spans)),
  );
}

export function textsOf({ attributes = [] }: Attributed): Record<string, string | undefined> {
  return Object.fromEntries(attributes.map(({ key, value }) => [key, value.stringValue]));
}
