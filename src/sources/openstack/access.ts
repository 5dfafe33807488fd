/** How to log in to a cloud: what `clouds.yaml` or the `OS_*` variables say, understood and checked. */
import * as z from "zod";
import { FleetingdError } from "../../errors.ts";

/** What Keystone is told, and where. */
export interface CloudAccess {
  /** For people: `the OpenStack cloud runner`. */
  readonly description: string;
  /** Ends with `/v3`. */
  readonly authUrl: string;
  /** Keystone's `auth` object. */
  readonly auth: Readonly<Record<string, unknown>>;
  /** What no error may show. */
  readonly secrets: readonly string[];
  readonly region: string | undefined;
  readonly interface: "public" | "internal" | "admin";
  /** Paths of PEM files. */
  readonly authorityPath: string | undefined;
  readonly certificatePath: string | undefined;
  readonly keyPath: string | undefined;
  readonly insecure: boolean;
}

/** A cloud as `clouds.yaml` has it. */
export type RawCloud = Readonly<Record<string, unknown>>;

const text = z.coerce.string();
const authSchema = z.looseObject({
  auth_url: text.optional(),
  username: text.optional(),
  user_id: text.optional(),
  password: text.optional(),
  token: text.optional(),
  project_name: text.optional(),
  project_id: text.optional(),
  tenant_name: text.optional(),
  tenant_id: text.optional(),
  domain_name: text.optional(),
  domain_id: text.optional(),
  default_domain: text.optional(),
  user_domain_name: text.optional(),
  user_domain_id: text.optional(),
  project_domain_name: text.optional(),
  project_domain_id: text.optional(),
  application_credential_id: text.optional(),
  application_credential_name: text.optional(),
  application_credential_secret: text.optional(),
});
type Auth = z.output<typeof authSchema>;

const cloudSchema = z.looseObject({
  auth: authSchema.default({}),
  auth_type: z.string().optional(),
  region_name: text.optional(),
  regions: z.array(z.union([text, z.looseObject({ name: text })])).optional(),
  interface: z.string().optional(),
  endpoint_type: z.string().optional(),
  verify: z.union([z.boolean(), z.string()]).optional(),
  cacert: z.string().optional(),
  cert: z.string().optional(),
  key: z.string().optional(),
});

const INTERFACES = ["public", "internal", "admin"] as const;

/**
 * @param where What people call the place that says it: `the cloud "runner" in /etc/openstack/clouds.yaml`.
 * @throws FleetingdError INVALID_CONFIG
 */
export function understandCloud(raw: RawCloud, description: string, where: string): CloudAccess {
  const parsed = cloudSchema.safeParse(raw);
  if (!parsed.success) {
    const [issue] = parsed.error.issues;
    throw invalid(where, `${issue?.path.join(".") ?? "it"}: ${issue?.message ?? "is wrong"}`);
  }
  const { auth, ...cloud } = parsed.data;
  const wanted = (cloud.interface ?? cloud.endpoint_type ?? "public").replace(/URL$/, "");
  const kind = INTERFACES.find((name) => name === wanted);
  if (kind === undefined)
    throw invalid(where, `interface: expected public, internal or admin, not ${wanted}`);
  if (auth.auth_url === undefined) throw invalid(where, "auth_url is missing: Keystone's address");
  const [first] = cloud.regions ?? [];
  return {
    description,
    authUrl: versionThree(auth.auth_url, where),
    auth: authRequest(auth, cloud.auth_type, where),
    secrets: [auth.password, auth.application_credential_secret, auth.token].filter((it) => it !== undefined),
    region: cloud.region_name ?? (typeof first === "object" ? first.name : first),
    interface: kind,
    authorityPath: cloud.cacert ?? (typeof cloud.verify === "string" ? cloud.verify : undefined),
    certificatePath: cloud.cert,
    keyPath: cloud.key,
    insecure: cloud.verify === false,
  };
}

function versionThree(url: string, where: string): string {
  if (!URL.canParse(url) || !/^https?:/.test(url))
    throw invalid(where, `auth_url: ${JSON.stringify(url)} is no URL`);
  const bare = url.replace(/\/+$/, "");
  if (/\/v2\.0$/.test(bare))
    throw invalid(where, "auth_url names version 2.0 of Keystone, which nobody has any more; write /v3");
  return bare.endsWith("/v3") ? bare : `${bare}/v3`;
}

function authRequest(auth: Auth, type: string | undefined, where: string): Readonly<Record<string, unknown>> {
  const isNamed =
    auth.application_credential_id !== undefined || auth.application_credential_name !== undefined;
  switch (type ?? (isNamed ? "v3applicationcredential" : auth.token === undefined ? "password" : "token")) {
    case "v3applicationcredential":
      return { identity: applicationCredential(auth, where) };
    case "password":
    case "v3password":
      return { identity: passwordIdentity(auth, where), ...scopeOf(auth, where) };
    case "token":
    case "v3token": {
      if (auth.token === undefined) throw invalid(where, "token is missing");
      return { identity: { methods: ["token"], token: { id: auth.token } }, ...scopeOf(auth, where) };
    }
    default:
      throw invalid(where, `auth_type ${type} is not supported; use password or v3applicationcredential`);
  }
}

function applicationCredential(auth: Auth, where: string) {
  const { application_credential_id: id, application_credential_name: name } = auth;
  const { application_credential_secret: secret } = auth;
  if (secret === undefined) throw invalid(where, "application_credential_secret is missing");
  const methods = ["application_credential"];
  if (id !== undefined) return { methods, application_credential: { id, secret } };
  if (name === undefined) throw invalid(where, "application_credential_id is missing");
  return { methods, application_credential: { name, secret, user: userOf(auth, where) } };
}

function passwordIdentity(auth: Auth, where: string) {
  if (auth.password === undefined) throw invalid(where, "password is missing; it may stand in secure.yaml");
  return { methods: ["password"], password: { user: { ...userOf(auth, where), password: auth.password } } };
}

function userOf(auth: Auth, where: string) {
  if (auth.user_id !== undefined) return { id: auth.user_id };
  if (auth.username === undefined) throw invalid(where, "username is missing");
  const id = auth.user_domain_id ?? auth.domain_id;
  return { name: auth.username, domain: domainOf(id, auth.user_domain_name ?? auth.domain_name, auth) };
}

function scopeOf(auth: Auth, where: string) {
  const id = auth.project_id ?? auth.tenant_id;
  if (id !== undefined) return { scope: { project: { id } } };
  const name = auth.project_name ?? auth.tenant_name;
  if (name === undefined)
    throw invalid(where, "project_name is missing: the project that servers are made in");
  const domainId = auth.project_domain_id ?? auth.user_domain_id ?? auth.domain_id;
  const domainName = auth.project_domain_name ?? auth.user_domain_name ?? auth.domain_name;
  return { scope: { project: { name, domain: domainOf(domainId, domainName, auth) } } };
}

function domainOf(id: string | undefined, name: string | undefined, { default_domain }: Auth) {
  if (id !== undefined) return { id };
  if (name !== undefined) return { name };
  return { id: default_domain ?? "default" };
}

function invalid(where: string, what: string): FleetingdError {
  return new FleetingdError("INVALID_CONFIG", `${where} can't be used: ${what}`);
}
