/** A login at Keystone: a token, which is renewed before it ends, and where the cloud's services are. */
import * as z from "zod";
import { FleetingdError } from "../../errors.ts";
import {
  ApiClient,
  ApiError,
  type ApiRequest,
  type ApiResponse,
  type TlsOptions,
} from "../../host/api-client.ts";
import type { CloudAccess } from "./access.ts";

export interface SessionOptions {
  access: CloudAccess;
  tls: TlsOptions;
  requestTimeoutMs: number;
}

const catalogSchema = z.array(
  z.object({
    type: z.string(),
    endpoints: z.array(
      z.object({
        interface: z.string(),
        region_id: z.string().nullish(),
        region: z.string().nullish(),
        url: z.string(),
      }),
    ),
  }),
);
type Catalog = z.output<typeof catalogSchema>;
const tokenSchema = z.object({
  token: z.object({
    issued_at: z.string(),
    expires_at: z.string(),
    catalog: catalogSchema.default([]),
    project: z.object({ name: z.string() }).optional(),
  }),
});

interface Token {
  value: string;
  /** When to get another one, in milliseconds since 1970. */
  renewAt: number;
  catalog: Catalog;
  project: string;
}

const MAX_CONCURRENT = 8;
/** Before a token ends; a request that is under way then must still be within it. One that lives shorter is used for half of its life. */
const RENEW_BEFORE_MS = 60_000;

export class Session {
  readonly #options: SessionOptions;
  readonly #keystone: ApiClient;
  readonly #services: ApiClient;
  #token: Promise<Token> | undefined;
  /** Many requests may be refused at once. */
  #renewing: Promise<Token> | undefined;
  #secret = "";

  constructor(options: SessionOptions) {
    this.#options = options;
    const { access, tls, requestTimeoutMs } = options;
    const shared = {
      server: access.description,
      baseUrl: access.authUrl,
      tls,
      requestTimeoutMs,
      maxConcurrent: MAX_CONCURRENT,
      secrets: () => [...access.secrets, this.#secret],
      explain: explainError,
    };
    this.#keystone = new ApiClient(shared);
    this.#services = new ApiClient({
      ...shared,
      headers: async () => ({ "x-auth-token": (await this.#current()).value }),
      renew: () => this.#renew(),
    });
  }

  /**
   * A request to the service of that type: `compute`, `image`, `network`.
   * @throws ApiError, or FleetingdError INVALID_CONFIG if the cloud has no such service
   */
  async request(service: string, request: ApiRequest): Promise<ApiResponse> {
    const { catalog } = await this.#current();
    const url = this.#endpoint(catalog, service);
    return this.#services.request({ ...request, path: `${url}${request.path}` });
  }

  async projectName(): Promise<string> {
    return (await this.#current()).project;
  }

  close(): void {
    this.#keystone.close();
    this.#services.close();
  }

  async #current(): Promise<Token> {
    const known = this.#token;
    const token = await known;
    if (token !== undefined && Date.now() < token.renewAt) return token;
    // Of all who see that it ends, one renews it.
    if (this.#token === known || this.#token === undefined) this.#token = this.#logIn();
    return this.#token;
  }

  /** The server refuses the token: it was revoked, perhaps, and the credentials were not. */
  async #renew(): Promise<boolean> {
    if (this.#renewing === undefined) {
      this.#token = this.#logIn();
      this.#renewing = this.#token.finally(() => {
        this.#renewing = undefined;
      });
    }
    await this.#renewing;
    return true;
  }

  #logIn(): Promise<Token> {
    const token = this.#requestToken();
    // A failure must not stay; whoever waits for it gets it.
    token.catch(() => {
      if (this.#token === token) this.#token = undefined;
    });
    return token;
  }

  async #requestToken(): Promise<Token> {
    const { access } = this.#options;
    const askedAt = Date.now();
    try {
      const response = await this.#keystone.request({
        method: "POST",
        path: "/auth/tokens",
        json: { auth: access.auth },
        // A token more does no harm.
        repeatable: true,
      });
      const value = response.headers["x-subject-token"];
      const parsed = tokenSchema.safeParse(response.json());
      if (typeof value !== "string" || !parsed.success) {
        throw new FleetingdError(
          "UNAVAILABLE",
          `${access.description} answered with something that is no token`,
          {
            hint: `Check that auth_url (${access.authUrl}) is Keystone's.`,
          },
        );
      }
      this.#secret = value;
      const { issued_at, expires_at, catalog, project } = parsed.data.token;
      // By Keystone's clock, which need not be right, it tells only how long the token lives.
      const lifeMs = Date.parse(expires_at) - Date.parse(issued_at);
      const renewAt = askedAt + Math.max(lifeMs - RENEW_BEFORE_MS, lifeMs / 2);
      return { value, renewAt, catalog, project: project?.name ?? "" };
    } catch (error) {
      if (!(error instanceof ApiError) || !isRefusal(error)) throw error;
      throw new FleetingdError("PERMISSION", `${access.description} refuses the credentials`, {
        hint: "Check user, password or application credential, and whether they were revoked or have expired.",
        cause: error,
      });
    }
  }

  #endpoint(catalog: Catalog, type: string): string {
    const { access } = this.#options;
    const names = ALIASES[type] ?? [type];
    const service = names
      .map((name) => catalog.find((entry) => entry.type === name))
      .find((entry) => entry !== undefined);
    const endpoint = service?.endpoints.find(
      ({ interface: kind, region_id, region }) =>
        kind === access.interface && (access.region === undefined || (region_id ?? region) === access.region),
    );
    if (endpoint !== undefined) return endpoint.url.replace(/\/+$/, "");
    const where = access.region === undefined ? "" : ` in the region ${access.region}`;
    throw new FleetingdError(
      "INVALID_CONFIG",
      `${access.description} has no ${access.interface} endpoint of the service "${type}"${where}`,
      { hint: "Check region_name and interface in clouds.yaml." },
    );
  }
}

/** Of an application credential that was deleted Keystone says that there is none. */
function isRefusal({ status, message }: ApiError): boolean {
  return status === 401 || (status === 404 && /could not find/i.test(message));
}

/** Other names that a service may have in the catalog. */
const ALIASES: Readonly<Record<string, readonly string[]>> = {
  compute: ["compute"],
  image: ["image"],
  network: ["network", "networking"],
};

const errorSchema = z.union([
  // Keystone and Glance: { error: { message } }; Nova: { itemNotFound: { message } }, and the like.
  z.record(z.string(), z.object({ message: z.string() })).transform((it) => Object.values(it)[0]?.message),
  z.object({ errors: z.array(z.object({ detail: z.string() })) }).transform((it) => it.errors[0]?.detail),
]);

function explainError(_status: number, body: string): string | undefined {
  try {
    return errorSchema.safeParse(JSON.parse(body)).data;
  } catch {
    // Glance and proxies answer with HTML, which is shown as it is.
    return undefined;
  }
}
