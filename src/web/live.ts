/** Streams: the picture of the daemon as server-sent events, and consoles as text. */
import { once } from "node:events";
import type { IncomingMessage, ServerResponse } from "node:http";
import { harmless } from "../api/text.ts";
import { exists } from "../host/files.ts";
import { readGrowingFile } from "../host/growing-file.ts";
import { begin, send } from "./answers.ts";
import type { Broadcast } from "./broadcast.ts";
import type { Access } from "./messages.ts";

const MAX_VIEWERS = 24;
const MAX_CONSOLES = 8;
/** A stream ends then, and the page asks again: whoever has no right any more is found out. */
const MAX_STREAM_MS = 3_600_000;
const RETRY_MS = 2_000;
const STALLED_MS = 60_000;
/** After so much silence the kernel asks whether the reader is still there. */
const KEEP_ALIVE_MS = 30_000;
const BUSY = { status: 503, headers: { "retry-after": "10" } };
/** Of a console that has said much already. */
const CONSOLE_BYTES = 256 * 1024;

export async function streamPicture(
  request: IncomingMessage,
  response: ServerResponse,
  broadcast: Broadcast,
  access: Access,
): Promise<void> {
  if (broadcast.viewers >= MAX_VIEWERS) return send(request, response, "Too many look at this page.\n", BUSY);
  if (request.method === "HEAD") return send(request, response, "", { type: "text/event-stream" });
  begin(response, { type: "text/event-stream" });
  response.write(`retry: ${RETRY_MS}\nevent: access\ndata: ${JSON.stringify(access)}\n\n`);
  const closed = new Promise((resolve) => response.once("close", resolve));
  const timer = setTimeout(() => response.destroy(), MAX_STREAM_MS);
  // Whoever is told nothing any more has not taken what was sent last.
  response.setTimeout(STALLED_MS, () => response.destroy());
  const leave = await broadcast.join({
    send: (json) => response.write(`data: ${json}\n\n`),
    onReady: (listener) => void response.on("drain", listener),
  });
  if (!response.closed) await closed;
  clearTimeout(timer);
  leave();
}

export class Consoles {
  #open = 0;

  /** Goes on until the VM or the reader is gone. */
  async stream(request: IncomingMessage, response: ServerResponse, path: string): Promise<void> {
    if (this.#open >= MAX_CONSOLES) return send(request, response, "Too many consoles are open.\n", BUSY);
    if (!(await exists(path)))
      return send(request, response, "It has no console yet, or none on this host.\n", { status: 404 });
    if (request.method === "HEAD") return send(request, response, "");
    request.socket.setKeepAlive(true, KEEP_ALIVE_MS);
    const ended = AbortSignal.timeout(MAX_STREAM_MS);
    const gone = new AbortController();
    response.once("close", () => gone.abort());
    this.#open += 1;
    try {
      const options = {
        follow: true,
        lastBytes: CONSOLE_BYTES,
        signal: AbortSignal.any([ended, gone.signal]),
      };
      begin(response, {});
      response.flushHeaders();
      for await (const text of readGrowingFile(path, options)) {
        // Whatever steers a terminal means nothing here.
        if (!response.write(harmless(text)))
          await Promise.race([once(response, "drain"), once(response, "close")]);
      }
      response.end();
    } finally {
      this.#open -= 1;
    }
  }
}
