/**
 * A login at Cloud Director: an access token in exchange for the API token, used by all and renewed when it ends or is refused,
 * and requests in the interface's XML. What is busy is asked again.
 */
import * as z from "zod";
import { FleetingdError } from "../../errors.ts";
import { ApiClient, ApiError, type TlsOptions } from "../../host/api-client.ts";
import { sleep } from "../../host/wait.ts";
import type { VcdConfig } from "./config.ts";
import { explainVcd, isBusy } from "./errors.ts";
import { buildXml, child, children, parseXml, textOf, type XmlNode } from "./xml.ts";

export interface SessionOptions {
  config: Pick<VcdConfig, "url" | "org" | "requestTimeoutMs">;
  /** Asked for at each login: a token may be exchanged for another. */
  token: () => Promise<string>;
  tls: TlsOptions;
  /** What people call the server. */
  server: string;
  /** What no error may show, besides tokens. */
  secrets: readonly string[];
}

export interface VcdRequest {
  method: "GET" | "POST" | "PUT" | "DELETE";
  /** `/api/…`, or a whole address of the server's. */
  path: string;
  /** The element that is sent, and its media type without `application/vnd.vmware.vcloud.`. */
  body?: { name: string; node: XmlNode; type: string };
  signal?: AbortSignal;
  /** Until when to ask again if something is busy, where that is not `signal`. */
  patience?: AbortSignal;
}

const accessSchema = z.object({ access_token: z.string().min(1), expires_in: z.number().optional() });

interface Access {
  value: string;
  apiVersion: string;
  /** In milliseconds since 1970. */
  renewAt: number;
}

const MAX_CONCURRENT = 8;
const RENEW_BEFORE_MS = 60_000;
const DEFAULT_LIFE_S = 3_600;
const FIRST_PAUSE_MS = 500;
const LONGEST_PAUSE_MS = 8_000;
/** The first version that knows API tokens, and the last one that this was written for. */
const OLDEST_VERSION = 36.1;
const NEWEST_VERSION = 38.1;

export class Session {
  /** Whether it is one of the provider's users, who belong to none of its organizations. */
  readonly isProvider: boolean;
  readonly #options: SessionOptions;
  readonly #login: ApiClient;
  readonly #api: ApiClient;
  #access: Promise<Access> | undefined;
  /** Many requests may be refused at once. */
  #renewing: Promise<Access> | undefined;
  /** Of the last login. */
  #tokens: readonly string[] = [];

  constructor(options: SessionOptions) {
    this.#options = options;
    const { config, server, tls, secrets } = options;
    this.isProvider = config.org.toLowerCase() === "system";
    const shared = {
      server,
      baseUrl: config.url,
      tls,
      requestTimeoutMs: config.requestTimeoutMs,
      maxConcurrent: MAX_CONCURRENT,
      secrets: () => [...this.#tokens, ...secrets],
      explain: explainVcd,
    };
    this.#login = new ApiClient(shared);
    this.#api = new ApiClient({
      ...shared,
      headers: async () => {
        const { value, apiVersion } = await this.#current();
        return { accept: `application/*+xml;version=${apiVersion}`, authorization: `Bearer ${value}` };
      },
      renew: () => this.#renew(),
    });
  }

  /**
   * The root element of the answer; empty if there is none.
   * @throws ApiError, or FleetingdError CANCELLED
   */
  async request({ method, path, body, signal, patience = signal }: VcdRequest): Promise<XmlNode> {
    for (let pauseMs = FIRST_PAUSE_MS; ; pauseMs = Math.min(LONGEST_PAUSE_MS, pauseMs * 2)) {
      try {
        const { text } = await this.#api.request({
          method,
          path: pathOf(path),
          ...(body === undefined ? {} : sent(body)),
          signal,
        });
        return this.#parse(`${method} ${path}`, text);
      } catch (error) {
        // That nothing has begun is certain: a refusal of this kind comes first.
        if (patience === undefined || !isBusy(error)) throw error;
        await sleep(pauseMs * (0.8 + 0.4 * Math.random()), patience).catch(() => {
          throw error;
        });
      }
    }
  }

  close(): void {
    this.#login.close();
    this.#api.close();
  }

  #parse(what: string, text: string): XmlNode {
    if (text.trim() === "") return {};
    const xml = parseXml(text);
    if (xml !== undefined) return xml.node;
    const { server, config } = this.#options;
    throw new ApiError("UNAVAILABLE", `${server} answered ${what} with something that is no XML`, {
      body: text,
      hint: `Check that url (${config.url}) is Cloud Director's.`,
    });
  }

  async #current(): Promise<Access> {
    const known = this.#access;
    const access = await known;
    if (access !== undefined && Date.now() < access.renewAt) return access;
    // Of all who see that it ends, one renews it.
    if (this.#access === known || this.#access === undefined) this.#access = this.#logIn();
    return this.#access;
  }

  async #renew(): Promise<boolean> {
    if (this.#renewing === undefined) {
      this.#access = this.#logIn();
      this.#renewing = this.#access.finally(() => {
        this.#renewing = undefined;
      });
    }
    await this.#renewing;
    return true;
  }

  #logIn(): Promise<Access> {
    const access = this.#requestAccess();
    // A failure must not stay; whoever waits for it gets it.
    access.catch(() => {
      if (this.#access === access) this.#access = undefined;
    });
    return access;
  }

  async #requestAccess(): Promise<Access> {
    const { config, server } = this.#options;
    const token = await this.#options.token();
    this.#tokens = [token];
    const apiVersion = await this.#apiVersion();
    const tenant = this.isProvider ? "provider" : `tenant/${encodeURIComponent(config.org)}`;
    try {
      const response = await this.#login.request({
        method: "POST",
        path: `/oauth/${tenant}/token`,
        headers: { accept: "application/json" },
        form: { grant_type: "refresh_token", refresh_token: token },
        // An access token more does no harm.
        repeatable: true,
      });
      const parsed = accessSchema.safeParse(response.json());
      if (!parsed.success)
        throw new FleetingdError("UNAVAILABLE", `${server} answered a login with no access token`);
      const { access_token: value, expires_in: seconds = DEFAULT_LIFE_S } = parsed.data;
      this.#tokens = [token, value];
      return {
        value,
        apiVersion,
        renewAt: Date.now() + Math.max(seconds * 500, seconds * 1_000 - RENEW_BEFORE_MS),
      };
    } catch (error) {
      if (!(error instanceof ApiError) || (error.status !== 400 && error.status !== 401)) throw error;
      throw new FleetingdError("PERMISSION", `${server} refuses the API token`, {
        hint: `Check that it is a token of the organization ${config.org}, and whether it was revoked or has expired.`,
        cause: error,
      });
    }
  }

  /** The newest version of the interface that both know. */
  async #apiVersion(): Promise<string> {
    const { server } = this.#options;
    const headers = { accept: "application/*+xml" };
    const { text } = await this.#login.request({ method: "GET", path: "/api/versions", headers });
    const known = children(this.#parse("GET /api/versions", text), "VersionInfo")
      .map((info) => textOf(child(info, "Version")) ?? "")
      .filter((version) => /^\d+\.\d$/.test(version));
    const [best] = known
      .filter((version) => Number(version) >= OLDEST_VERSION && Number(version) <= NEWEST_VERSION)
      .sort((a, b) => Number(b) - Number(a));
    if (best !== undefined) return best;
    throw new FleetingdError(
      "INVALID_CONFIG",
      `${server} has versions ${known.join(", ") || "(none)"} of the interface, and one from ${OLDEST_VERSION} to ${NEWEST_VERSION} is needed`,
      { hint: "That is Cloud Director 10.3.1 or newer, which has API tokens." },
    );
  }
}

/** The server names things by the address that it believes to have; we go on with the configured one. */
export function pathOf(href: string): string {
  const start = href.indexOf("/api/");
  return start < 0 ? href : href.slice(start);
}

function sent({ name, node, type }: NonNullable<VcdRequest["body"]>) {
  return {
    body: buildXml(name, node),
    headers: { "content-type": `application/vnd.vmware.vcloud.${type}` },
  };
}
