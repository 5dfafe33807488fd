/** What every answer of the page's server has in common: how it is to be treated by a browser. */
import type { IncomingMessage, ServerResponse } from "node:http";

/** Everything is from this server, and nothing is written into the page but by its one script. */
const CONTENT_SECURITY_POLICY = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self'",
  "img-src 'self'",
  "connect-src 'self'",
  "form-action 'self'",
  "base-uri 'none'",
  "frame-ancestors 'none'",
  "require-trusted-types-for 'script'",
  "trusted-types 'none'",
].join("; ");

const HEADERS: Readonly<Record<string, string>> = {
  "content-security-policy": CONTENT_SECURITY_POLICY,
  "x-content-type-options": "nosniff",
  "x-frame-options": "DENY",
  // Without it a browser would not say that a form is from here.
  "referrer-policy": "same-origin",
  "cross-origin-opener-policy": "same-origin",
  "cross-origin-resource-policy": "same-origin",
  "permissions-policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
  "cache-control": "no-store",
};

/** With an answer to what was not read to its end. */
export const CLOSE = { connection: "close" };

export const TEXT = "text/plain; charset=utf-8";

export interface Answer {
  status?: number;
  type?: string;
  headers?: Readonly<Record<string, string>>;
}

/** Writes the head; what follows is the caller's. */
export function begin(response: ServerResponse, { status = 200, type = TEXT, headers }: Answer): void {
  response.writeHead(status, { ...HEADERS, "content-type": type, ...headers });
}

/** Undefined if it is too long; the server's own limit ends one that takes too much time. */
export async function readBody(request: IncomingMessage, maxBytes: number): Promise<string | undefined> {
  const parts: Buffer[] = [];
  let bytes = 0;
  for await (const part of request as AsyncIterable<Buffer>) {
    bytes += part.length;
    if (bytes > maxBytes) return undefined;
    parts.push(part);
  }
  return Buffer.concat(parts).toString();
}

export function send(
  request: IncomingMessage,
  response: ServerResponse,
  body: string,
  answer: Answer = {},
): void {
  begin(response, {
    ...answer,
    headers: { ...answer.headers, "content-length": String(Buffer.byteLength(body)) },
  });
  response.end(request.method === "HEAD" ? undefined : body);
}

/**
 * Whether another site's page asks: it could not read the answer, but need not get one. An address that somebody follows is
 * no such question; browsers that don't tell are old.
 */
export function isForeign({ headers, method }: IncomingMessage): boolean {
  const { origin, host } = headers;
  if (origin !== undefined && (!URL.canParse(origin) || new URL(origin).host !== host)) return true;
  const site = headers["sec-fetch-site"];
  if (site === undefined || site === "same-origin" || site === "none") return false;
  const isFollowed = headers["sec-fetch-mode"] === "navigate" && headers["sec-fetch-dest"] === "document";
  return method !== "GET" || !isFollowed;
}
