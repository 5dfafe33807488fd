/** Reading over HTTP and HTTPS: bounded in time and size, with errors that say whether another try makes sense. */
import { once } from "node:events";
import type { IncomingMessage } from "node:http";
import got, { type Request, RequestError } from "got";
import { FleetingdError, messageOf, systemErrorCode } from "../errors.ts";
import { sleep } from "./wait.ts";

export interface HttpOptions {
  /** PEM certificates that the server's may be of; default: those that Node trusts. */
  certificateAuthority?: string | undefined;
  /** Accepts whoever answers. */
  insecure?: boolean;
  signal?: AbortSignal | undefined;
  /** How long a server may be silent, to connect or between two pieces of its answer. Default 30 s. */
  silenceMs?: number | undefined;
}

export interface RetryOptions {
  /** How often in a row it may fail before the failure counts. Default 4. */
  maxFailures?: number | undefined;
  /** The pause after the first failure; doubled after each, up to 10 s. Default 500. */
  retryDelayMs?: number | undefined;
  signal?: AbortSignal | undefined;
  /** Called before each pause. */
  onRetry?: ((error: HttpError, delayMs: number) => void) | undefined;
}

/** A request that failed. UNAVAILABLE, or NOT_FOUND if the server says that there is no such thing. */
export class HttpError extends FleetingdError {
  /** Whether the same request may succeed later. */
  readonly transient: boolean;
  /** What the server asked us to wait. */
  readonly retryAfterMs: number | undefined;

  constructor(
    message: string,
    options: {
      transient: boolean;
      notFound?: boolean;
      retryAfterMs?: number | undefined;
      hint?: string | undefined;
      cause?: unknown;
    },
  ) {
    super(options.notFound ? "NOT_FOUND" : "UNAVAILABLE", message, options);
    this.transient = options.transient;
    this.retryAfterMs = options.retryAfterMs;
  }
}

const DEFAULT_SILENCE_MS = 30_000;
const DEFAULT_MAX_FAILURES = 4;
const DEFAULT_RETRY_DELAY_MS = 500;
const LONGEST_DELAY_MS = 10_000;
const LONGEST_RETRY_AFTER_MS = 60_000;
const MAX_REDIRECTS = 5;

/**
 * Sends a GET and waits for the answer's header. The caller reads `request` to its end or destroys it.
 * @param headers besides our own; any status below 400 is an answer, and so is one of `acceptedStatus`
 * @throws HttpError, or FleetingdError CANCELLED
 */
export async function openHttp(
  url: string,
  options: HttpOptions & { headers?: Record<string, string>; acceptedStatus?: readonly number[] },
): Promise<{ request: Request; response: IncomingMessage; status: number }> {
  const silenceMs = options.silenceMs ?? DEFAULT_SILENCE_MS;
  const { certificateAuthority } = options;
  const request = got.stream(url, {
    // Sizes and offsets are those of the file as it is, so nothing may compress it on the way.
    decompress: false,
    headers: { "user-agent": "fleetingd", "accept-encoding": "identity", ...options.headers },
    throwHttpErrors: false,
    retry: { limit: 0 },
    maxRedirects: MAX_REDIRECTS,
    timeout: {
      lookup: silenceMs,
      connect: silenceMs,
      secureConnect: silenceMs,
      response: silenceMs,
      socket: silenceMs,
    },
    https: {
      rejectUnauthorized: options.insecure !== true,
      ...(certificateAuthority === undefined ? {} : { certificateAuthority }),
    },
    ...(options.signal === undefined ? {} : { signal: options.signal }),
  });
  // An error between the header and the first read of the body would otherwise end the process; the read reports it.
  request.on("error", () => undefined);
  try {
    const [response] = (await once(request, "response")) as [IncomingMessage];
    const status = response.statusCode ?? 0;
    if (status < 400 || options.acceptedStatus?.includes(status)) return { request, response, status };
    throw statusError(url, status, response);
  } catch (error) {
    request.destroy();
    throw httpFailure(url, error, options.signal);
  }
}

/**
 * The whole body of a small file, with retries.
 * @throws HttpError (also if it is larger than `maxBytes`), or FleetingdError CANCELLED
 */
export async function fetchBytes(
  url: string,
  options: HttpOptions & RetryOptions & { maxBytes: number },
): Promise<Buffer> {
  return withRetries(options, async () => {
    const { request } = await openHttp(url, options);
    try {
      const chunks: Buffer[] = [];
      let size = 0;
      for await (const chunk of request as AsyncIterable<Buffer>) {
        size += chunk.length;
        if (size > options.maxBytes) {
          throw new HttpError(`${url} is larger than ${options.maxBytes} bytes`, { transient: false });
        }
        chunks.push(chunk);
      }
      return Buffer.concat(chunks);
    } catch (error) {
      throw httpFailure(url, error, options.signal);
    } finally {
      request.destroy();
    }
  });
}

/**
 * Calls `attempt` until it succeeds, fails for good, or has failed `maxFailures` times since it last made progress.
 * @param attempt may call `progressed` when it got further than the ones before
 */
export async function withRetries<T>(
  options: RetryOptions,
  attempt: (progressed: () => void) => Promise<T>,
): Promise<T> {
  const maxFailures = options.maxFailures ?? DEFAULT_MAX_FAILURES;
  const firstDelayMs = options.retryDelayMs ?? DEFAULT_RETRY_DELAY_MS;
  for (let failures = 0; ; ) {
    try {
      return await attempt(() => {
        failures = 0;
      });
    } catch (error) {
      failures += 1;
      if (!(error instanceof HttpError && error.transient) || failures >= maxFailures) throw error;
      const backoffMs = Math.min(firstDelayMs * 2 ** (failures - 1), LONGEST_DELAY_MS);
      const delayMs = Math.max(backoffMs, error.retryAfterMs ?? 0);
      options.onRetry?.(error, delayMs);
      await sleep(delayMs, options.signal);
    }
  }
}

/** What anything thrown by a request means; errors that are not the network's stay as they are. */
export function httpFailure(url: string, error: unknown, signal?: AbortSignal): unknown {
  if (signal?.aborted) {
    return new FleetingdError("CANCELLED", `cancelled while fetching ${url}`, { cause: error });
  }
  const code = systemErrorCode(error) ?? "";
  if (error instanceof FleetingdError) return error;
  if (!(error instanceof RequestError) && code !== "ERR_STREAM_PREMATURE_CLOSE") return error;
  const certificate = /CERT|SELF_SIGNED|UNABLE_TO_(VERIFY|GET_ISSUER)|ALTNAME/.test(code);
  const rejected = certificate || code === "ERR_INVALID_URL" || code === "ERR_UNSUPPORTED_PROTOCOL";
  return new HttpError(`could not fetch ${url}: ${networkReason(error)}`, {
    transient: !rejected && code !== "ERR_TOO_MANY_REDIRECTS",
    hint: certificate
      ? "If this server's certificate is of an authority of your own, set ca_certificate to its PEM file."
      : undefined,
    cause: error,
  });
}

/** What the network had against a request, in words. */
export function networkReason(error: unknown): string {
  const words: Readonly<Record<string, string>> = {
    ECONNREFUSED: "the connection was refused",
    ECONNRESET: "the connection broke",
    ERR_STREAM_PREMATURE_CLOSE: "the connection broke",
    ENOENT: "its socket does not exist",
    EACCES: "its socket may not be used by this user",
    ENOTFOUND: "its name is not known",
    EAI_AGAIN: "its name could not be looked up",
    ENETUNREACH: "its network cannot be reached",
    EHOSTUNREACH: "it cannot be reached",
    ETIMEDOUT: "it did not answer in time",
  };
  const code = systemErrorCode(error) ?? "";
  return words[code] ?? (code === "" ? messageOf(error) : `${messageOf(error)} (${code})`);
}

function statusError(url: string, status: number, response: IncomingMessage): HttpError {
  const retryAfterMs = parseRetryAfter(response.headers["retry-after"]);
  return new HttpError(`could not fetch ${url}: the server answered ${status} ${response.statusMessage}`, {
    transient: status >= 500 || status === 429 || status === 408,
    notFound: status === 404 || status === 410,
    retryAfterMs: retryAfterMs === undefined ? undefined : Math.min(retryAfterMs, LONGEST_RETRY_AFTER_MS),
  });
}

/** Milliseconds, of `Retry-After`'s seconds or date; undefined without one that makes sense. */
export function parseRetryAfter(value: string | undefined, now = Date.now()): number | undefined {
  if (value === undefined) return undefined;
  const ms = /^\d+$/.test(value) ? Number(value) * 1000 : Date.parse(value) - now;
  return ms > 0 ? ms : undefined;
}
