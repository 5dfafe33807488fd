/**
 * The HTTP interface of a cloud: bounded in time and in requests at once. A request is only sent again where that can do no
 * harm: it never reached the server, the server says that it did nothing, or to do it twice is the same as once.
 */
import { Agent as HttpAgent } from "node:http";
import { Agent as HttpsAgent } from "node:https";
import got, { type OptionsInit, RequestError, type Response, TimeoutError } from "got";
import { type ErrorCode, FleetingdError, systemErrorCode } from "../errors.ts";
import { networkReason, parseRetryAfter } from "./http.ts";
import { redact } from "./redact.ts";
import { sleep } from "./wait.ts";

export interface ApiClientOptions {
  /** What people call the server, for errors: `the Incus server https://rack:8443`. */
  server: string;
  /** `https://rack:8443`, without a slash at its end; what paths are put behind. */
  baseUrl: string;
  /** A unix socket to speak over; `baseUrl` is not used then. */
  socketPath?: string | undefined;
  tls?: TlsOptions | undefined;
  /** How long a server may be silent: to connect, and until its answer begins. */
  requestTimeoutMs: number;
  /** How many requests may be under way at once; the others wait. */
  maxConcurrent: number;
  /** Sent with each request, asked for each attempt anew. */
  headers?: (() => Promise<Readonly<Record<string, string>>>) | undefined;
  /** Called when the server answers 401: whether there are other credentials now, and another try makes sense. */
  renew?: (() => Promise<boolean>) | undefined;
  /** What no error may show. */
  secrets?: (() => readonly string[]) | undefined;
  /** What the body of an error says, if it is understood. */
  explain?: ((status: number, body: string) => string | undefined) | undefined;
}

export interface TlsOptions {
  /** PEM of the authorities that the server's certificate may be of; default: those that Node trusts. */
  certificateAuthority?: string | undefined;
  /** PEM of the server's own certificate, where nobody has signed it: only this one is accepted, for any name. */
  serverCertificate?: string | undefined;
  clientCertificate?: string | undefined;
  clientKey?: string | undefined;
  /** Accepts whoever answers. */
  insecure?: boolean | undefined;
}

export interface ApiRequest {
  method: "GET" | "HEAD" | "POST" | "PUT" | "PATCH" | "DELETE";
  /** From the base URL, with its query; or a whole URL. */
  path: string;
  json?: unknown;
  form?: Readonly<Record<string, string>>;
  /** With its type in `headers`. */
  body?: string;
  headers?: Readonly<Record<string, string>>;
  /** Statuses that are answers besides those below 400. */
  acceptedStatus?: readonly number[];
  /** Whether to send it twice is the same as once. Default: all but POST and PATCH. */
  repeatable?: boolean;
  /** Instead of `requestTimeoutMs`, for an answer that may be long in coming. */
  timeoutMs?: number;
  signal?: AbortSignal | undefined;
}

export interface ApiResponse {
  status: number;
  headers: Readonly<Record<string, string | string[] | undefined>>;
  text: string;
  /** @throws ApiError if it is no JSON */
  json(): unknown;
}

/** A request that failed: PERMISSION, NOT_FOUND, ALREADY_EXISTS, INVALID_ARGUMENT, or UNAVAILABLE where it may succeed later. */
export class ApiError extends FleetingdError {
  /** Undefined if there was no answer. */
  readonly status: number | undefined;
  /** The answer's body: not redacted, so only to be read by programs. */
  readonly body: string;
  /** Whether the server can't have begun to do it. */
  readonly refused: boolean;

  constructor(
    code: ErrorCode,
    message: string,
    details: {
      status?: number | undefined;
      body?: string;
      refused?: boolean;
      hint?: string | undefined;
      cause?: unknown;
    },
  ) {
    super(code, message, details);
    this.status = details.status;
    this.body = details.body ?? "";
    this.refused = details.refused ?? false;
  }
}

const MAX_ATTEMPTS = 4;
const FIRST_PAUSE_MS = 250;
const LONGEST_PAUSE_MS = 4_000;
/** A server that asks for more is answered with an error instead; whoever asked tries again later. */
const LONGEST_RETRY_AFTER_MS = 30_000;
/** An answer may trickle in, but not for ever: as many times the timeout. */
const WHOLE_ANSWER = 10;
const REPEATABLE = new Set(["GET", "HEAD", "PUT", "DELETE"]);
/** The connection was never there. */
const NEVER_SENT = new Set([
  "ECONNREFUSED",
  "ENOTFOUND",
  "EAI_AGAIN",
  "ENETUNREACH",
  "EHOSTUNREACH",
  "ENOENT",
  "EACCES",
]);
const CONNECTING = new Set(["lookup", "connect", "secureConnect"]);

export class ApiClient {
  readonly #options: ApiClientOptions;
  readonly #agents: { http: HttpAgent; https: HttpsAgent };
  /** The server asked for quiet until then, in milliseconds of `performance.now()`. */
  #quietUntil = 0;
  #requests = 0;

  constructor(options: ApiClientOptions) {
    this.#options = options;
    const pooled = { keepAlive: true, maxSockets: options.maxConcurrent };
    this.#agents = { http: new HttpAgent(pooled), https: new HttpsAgent(pooled) };
  }

  /** How many requests were sent, those that were repeated included. */
  get requests(): number {
    return this.#requests;
  }

  /** @throws ApiError, or FleetingdError CANCELLED */
  async request(request: ApiRequest): Promise<ApiResponse> {
    let mayRenew = this.#options.renew !== undefined;
    for (let attempt = 1; ; attempt++) {
      await this.#quiet(request.signal);
      const answer = await this.#attempt(request);
      if (!("failure" in answer)) return answer;
      const { failure, retryAfterMs, repeat } = answer;
      if (failure.status === 401 && mayRenew) {
        mayRenew = false;
        if (await this.#options.renew?.()) continue;
      }
      if (retryAfterMs !== undefined) this.#quietUntil = performance.now() + retryAfterMs;
      const tooLong = (retryAfterMs ?? 0) > LONGEST_RETRY_AFTER_MS;
      if (!repeat || tooLong || attempt >= MAX_ATTEMPTS) throw failure;
      const pauseMs = Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** (attempt - 1));
      await sleep(pauseMs * (0.8 + 0.4 * Math.random()), request.signal);
    }
  }

  /** Closes connections that are idle; one that is used ends with its request. */
  close(): void {
    this.#agents.http.destroy();
    this.#agents.https.destroy();
  }

  async #quiet(signal: AbortSignal | undefined): Promise<void> {
    const ms = this.#quietUntil - performance.now();
    if (ms > LONGEST_RETRY_AFTER_MS) {
      const seconds = Math.ceil(ms / 1000);
      throw new ApiError(
        "UNAVAILABLE",
        `${this.#options.server} asked to be left alone for another ${seconds} s`,
        {
          refused: true,
        },
      );
    }
    if (ms > 0) await sleep(ms, signal);
  }

  async #attempt(request: ApiRequest): Promise<ApiResponse | Failed> {
    const what = `${request.method} ${withoutQuery(request.path)}`;
    const repeatable = request.repeatable ?? REPEATABLE.has(request.method);
    const timeoutMs = request.timeoutMs ?? this.#options.requestTimeoutMs;
    const whole = AbortSignal.timeout(timeoutMs * WHOLE_ANSWER);
    this.#requests++;
    try {
      const response = await got(this.#url(request), {
        ...(await this.#requestOptions(request, timeoutMs)),
        signal: request.signal === undefined ? whole : AbortSignal.any([request.signal, whole]),
      });
      const { statusCode: status, headers, body: text } = response;
      if (status < 400 || request.acceptedStatus?.includes(status)) {
        return { status, headers, text, json: () => this.#parse(what, text) };
      }
      return this.#refusal(what, response, repeatable);
    } catch (error) {
      if (request.signal?.aborted) {
        throw new FleetingdError("CANCELLED", `cancelled during ${what}`, { cause: error });
      }
      if (!(error instanceof RequestError)) throw error;
      const refused = neverSent(error);
      const failure = new ApiError(
        "UNAVAILABLE",
        `${this.#options.server} can't be asked (${what}): ${this.#safe(networkReason(error))}`,
        { refused, hint: tlsHint(error), cause: error },
      );
      return {
        failure,
        retryAfterMs: undefined,
        repeat: tlsHint(error) === undefined && (refused || repeatable),
      };
    }
  }

  #refusal(what: string, response: Response<string>, repeatable: boolean): Failed {
    const { server, explain } = this.#options;
    const { statusCode: status, body } = response;
    const retryAfter = response.headers["retry-after"];
    const retryAfterMs = parseRetryAfter(retryAfter);
    const said = explain?.(status, body) ?? `${response.statusMessage ?? ""} ${body}`.trim();
    // By these a server says that it has not begun.
    const refused = status === 429 || (status === 503 && retryAfter !== undefined);
    const isTransient = refused || status === 408 || (status >= 500 && status !== 501);
    const failure = new ApiError(
      isTransient ? "UNAVAILABLE" : codeOf(status),
      `${server} answered ${status} to ${what}: ${this.#safe(said)}`,
      {
        status,
        body,
        refused,
        hint: status === 401 ? "Its credentials are wrong or were revoked." : undefined,
      },
    );
    return { failure, retryAfterMs, repeat: refused || (isTransient && repeatable) };
  }

  async #requestOptions({ method, ...request }: ApiRequest, timeoutMs: number) {
    const headers = { "user-agent": "fleetingd", ...(await this.#options.headers?.()), ...request.headers };
    return {
      method,
      headers,
      responseType: "text",
      throwHttpErrors: false,
      followRedirect: method === "GET",
      retry: { limit: 0 },
      agent: this.#agents,
      enableUnixSockets: this.#options.socketPath !== undefined,
      timeout: {
        lookup: timeoutMs,
        connect: timeoutMs,
        secureConnect: timeoutMs,
        socket: timeoutMs,
        response: timeoutMs,
      },
      https: httpsOptions(this.#options.tls),
      ...(request.json === undefined ? {} : { json: request.json }),
      ...(request.form === undefined ? {} : { form: request.form }),
      ...(request.body === undefined ? {} : { body: request.body }),
    } as const satisfies OptionsInit;
  }

  #url({ path }: ApiRequest): string {
    if (/^https?:/.test(path)) return path;
    const { socketPath, baseUrl } = this.#options;
    return socketPath === undefined ? `${baseUrl}${path}` : `http://unix:${socketPath}:${path}`;
  }

  #safe(text: string): string {
    return redact(text, this.#options.secrets?.());
  }

  #parse(what: string, text: string): unknown {
    try {
      return JSON.parse(text);
    } catch (error) {
      throw new ApiError(
        "UNAVAILABLE",
        `${this.#options.server} answered ${what} with something that is no JSON`,
        {
          body: text,
          cause: error,
        },
      );
    }
  }
}

interface Failed {
  failure: ApiError;
  retryAfterMs: number | undefined;
  repeat: boolean;
}

function httpsOptions(tls: TlsOptions | undefined): NonNullable<OptionsInit["https"]> {
  const authority = tls?.serverCertificate ?? tls?.certificateAuthority;
  return {
    ...(authority === undefined ? {} : { certificateAuthority: authority }),
    // The certificate itself is known, so it may say any name.
    ...(tls?.serverCertificate === undefined ? {} : { checkServerIdentity: () => undefined }),
    ...(tls?.clientCertificate === undefined ? {} : { certificate: tls.clientCertificate }),
    ...(tls?.clientKey === undefined ? {} : { key: tls.clientKey }),
    ...(tls?.insecure ? { rejectUnauthorized: false } : {}),
  };
}

function neverSent(error: RequestError): boolean {
  if (error instanceof TimeoutError) return CONNECTING.has(error.event);
  return NEVER_SENT.has(systemErrorCode(error) ?? "") || tlsHint(error) !== undefined;
}

function tlsHint(error: RequestError): string | undefined {
  const isCertificate = /CERT|SELF_SIGNED|UNABLE_TO_(VERIFY|GET_ISSUER)|ALTNAME/.test(
    systemErrorCode(error) ?? "",
  );
  return isCertificate
    ? "Name the server's own certificate, or its authority's, in the source's configuration."
    : undefined;
}

function codeOf(status: number): ErrorCode {
  if (status === 401 || status === 403) return "PERMISSION";
  if (status === 404 || status === 410) return "NOT_FOUND";
  return status === 409 ? "ALREADY_EXISTS" : "INVALID_ARGUMENT";
}

function withoutQuery(path: string): string {
  return path.split("?", 1)[0] ?? path;
}
