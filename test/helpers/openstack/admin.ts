/** Requests to the services as one of their users, for what a test arranges or looks at besides the source. */

import type { ServiceName } from "./settings.ts";
import { urlOf } from "./settings.ts";

export type Json = Record<string, unknown>;

export interface CloudUser {
  readonly projectId: string;
  readonly userId: string;
  /** Sends a request and answers its body. @throws Error with the service's text on any status above 399 */
  call(service: ServiceName, method: string, path: string, body?: Json): Promise<Json>;
  /** Stores an image's data. */
  upload(path: string, data: string): Promise<void>;
}

interface Login {
  name: string;
  password: string;
  project: string;
}

const NOVA_VERSION = "2.79";

export async function logInAs({ name, password, project }: Login): Promise<CloudUser> {
  const domain = { name: "Default" };
  const response = await send(
    `${urlOf("keystone")}/auth/tokens`,
    "POST",
    {},
    {
      auth: {
        identity: { methods: ["password"], password: { user: { name, password, domain } } },
        scope: { project: { name: project, domain } },
      },
    },
  );
  const token = response.headers.get("x-subject-token") ?? "";
  const answer = (await response.json()) as { token: { project: { id: string }; user: { id: string } } };
  const headers = { "x-auth-token": token, "openstack-api-version": `compute ${NOVA_VERSION}` };
  return {
    projectId: answer.token.project.id,
    userId: answer.token.user.id,
    async call(service, method, path, body) {
      const text = await (await send(`${urlOf(service)}${path}`, method, headers, body)).text();
      return text.startsWith("{") ? (JSON.parse(text) as Json) : {};
    },
    async upload(path, data) {
      await send(`${urlOf("glance")}${path}`, "PUT", headers, data);
    },
  };
}

async function send(
  url: string,
  method: string,
  headers: Record<string, string>,
  body?: Json | string,
): Promise<Response> {
  const type = typeof body === "string" ? "application/octet-stream" : "application/json";
  const response = await fetch(url, {
    method,
    headers: { ...headers, "content-type": type },
    ...(body === undefined ? {} : { body: typeof body === "string" ? body : JSON.stringify(body) }),
    signal: AbortSignal.timeout(60_000),
  });
  if (response.status < 400) return response;
  throw new Error(`${method} ${url}: ${response.status} ${await response.text()}`);
}
