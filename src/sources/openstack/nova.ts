/** Nova's, Glance's and Neutron's interfaces, as much of them as is needed. */
import * as z from "zod";
import { FleetingdError } from "../../errors.ts";
import { ApiError, type ApiRequest, type ApiResponse } from "../../host/api-client.ts";
import type { Session } from "./session.ts";

const addressSchema = z.object({
  addr: z.string(),
  version: z.number(),
  "OS-EXT-IPS:type": z.string().optional(),
});
const serverSchema = z.object({
  id: z.string(),
  name: z.string(),
  status: z.string(),
  accessIPv4: z.string().nullish(),
  addresses: z.record(z.string(), z.array(addressSchema)).default({}),
  tags: z.array(z.string()).default([]),
  fault: z.object({ message: z.string() }).optional(),
});
/** A server as Nova describes it. */
export type Server = z.output<typeof serverSchema>;

const pageSchema = z.object({
  servers: z.array(serverSchema),
  servers_links: z.array(z.object({ rel: z.string(), href: z.string() })).default([]),
});

/** What Glance says of an image, as far as logging in is concerned. */
export interface Image {
  id: string;
  adminUser: string | undefined;
  os: string | undefined;
  arch: string | undefined;
}
const imageSchema = z.object({
  id: z.string(),
  os_admin_user: z.string().optional(),
  os_type: z.string().optional(),
  architecture: z.string().optional(),
});

const ARCHITECTURES: Readonly<Record<string, string>> = { x86_64: "amd64", aarch64: "arm64" };
const MOST_PAGES = 100;

export class Nova {
  readonly #session: Session;
  readonly #microversion: string;

  constructor(session: Session, microversion: string) {
    this.#session = session;
    this.#microversion = microversion;
  }

  /** Can't be aborted: only the answer tells the id of what there is then. @returns that id */
  async createServer(body: Readonly<Record<string, unknown>>): Promise<string> {
    try {
      const response = await this.#compute({ method: "POST", path: "/servers", json: body });
      return z.object({ server: z.object({ id: z.string() }) }).parse(response.json()).server.id;
    } catch (error) {
      throw await this.#explainRefusal(error);
    }
  }

  /** Those that carry all of `tags`, on as many pages as it takes. */
  async listServers(tags: readonly string[], signal: AbortSignal): Promise<Server[]> {
    const servers: Server[] = [];
    let query = `tags=${tags.map(encodeURIComponent).join(",")}`;
    for (let page = 0; page < MOST_PAGES; page++) {
      const response = await this.#compute({ method: "GET", path: `/servers/detail?${query}`, signal });
      const answer = pageSchema.parse(response.json());
      servers.push(...answer.servers);
      const next = answer.servers_links.find(({ rel }) => rel === "next");
      if (next === undefined) return servers;
      query = new URL(next.href).search.slice(1);
    }
    throw new FleetingdError("UNAVAILABLE", `the list of servers has more than ${MOST_PAGES} pages`);
  }

  /** Absent is fine. */
  async deleteServer(id: string, signal: AbortSignal): Promise<void> {
    // A conflict is a server that is being deleted already.
    await this.#compute({ method: "DELETE", path: `/servers/${id}`, signal, acceptedStatus: [404, 409] });
  }

  /** All that the console's log holds; undefined if there is none as yet. */
  async console(id: string, signal: AbortSignal): Promise<string | undefined> {
    const json = { "os-getConsoleOutput": {} };
    const path = `/servers/${id}/action`;
    const request = {
      method: "POST",
      path,
      json,
      signal,
      repeatable: true,
      acceptedStatus: [404, 409],
    } as const;
    const response = await this.#compute(request);
    if (response.status >= 400) return undefined;
    return z.object({ output: z.string().nullable() }).parse(response.json()).output ?? "";
  }

  /** @throws FleetingdError INVALID_CONFIG if there is none, or more than one of that name */
  async image(wanted: { id: string } | { name: string }, signal: AbortSignal): Promise<Image> {
    if ("id" in wanted) {
      const path = `/v2/images/${encodeURIComponent(wanted.id)}`;
      const response = await this.#session.request("image", {
        method: "GET",
        path,
        signal,
        acceptedStatus: [404],
      });
      if (response.status !== 404) return toImage(imageSchema.parse(response.json()));
      throw noImage(`there is no image with the id ${wanted.id} (server_spec.imageRef)`);
    }
    const { name } = wanted;
    // Twice "in:" would be a list; a name may hold commas.
    const path = `/v2/images?name=${encodeURIComponent(name)}&status=active&limit=2`;
    const response = await this.#session.request("image", { method: "GET", path, signal });
    const { images } = z.object({ images: z.array(imageSchema) }).parse(response.json());
    const [image] = images;
    if (image === undefined)
      throw noImage(`there is no image with the name ${name} (server_spec.image_name)`);
    if (images.length > 1) {
      throw noImage(
        `there are several images with the name ${name} (server_spec.image_name); name one by its id, as imageRef`,
      );
    }
    return toImage(image);
  }

  /** Whether there is something at a path of Nova or Neutron. */
  async has(service: "compute" | "network", path: string, signal: AbortSignal): Promise<boolean> {
    const request = { method: "GET", path, signal, acceptedStatus: [404] } as const;
    const answer = await (service === "compute"
      ? this.#compute(request)
      : this.#session.request(service, request));
    return answer.status !== 404;
  }

  /** Removes what a server that failed may have left in the network; `kept` are ports of other people's. */
  async removePorts(serverId: string, kept: ReadonlySet<string>, signal: AbortSignal): Promise<void> {
    const list = await this.#session.request("network", {
      method: "GET",
      path: `/v2.0/ports?device_id=${encodeURIComponent(serverId)}&fields=id`,
      signal,
    });
    const { ports } = z.object({ ports: z.array(z.object({ id: z.string() })) }).parse(list.json());
    for (const { id } of ports.filter((port) => !kept.has(port.id))) {
      const path = `/v2.0/ports/${id}`;
      await this.#session.request("network", { method: "DELETE", path, signal, acceptedStatus: [404] });
    }
  }

  async #compute(request: ApiRequest): Promise<ApiResponse> {
    const headers = {
      "openstack-api-version": `compute ${this.#microversion}`,
      "x-openstack-nova-api-version": this.#microversion,
    };
    try {
      return await this.#session.request("compute", { ...request, headers });
    } catch (error) {
      if (!(error instanceof ApiError) || error.status !== 406) throw error;
      throw new FleetingdError("INVALID_CONFIG", error.message, {
        hint: `Set nova_microversion to one that this cloud has; ${this.#microversion} it has not.`,
        cause: error,
      });
    }
  }

  /** Nova says in words what is wrong with a request; whether it is a quota shows in no other way. */
  async #explainRefusal(error: unknown): Promise<unknown> {
    if (!(error instanceof ApiError) || error.status === undefined) return error;
    const { status, message } = error;
    if ((status === 403 || status === 413) && /quota|exceed|limit/i.test(message)) {
      return new FleetingdError(
        "EXHAUSTED",
        `a quota of the project ${await this.#session.projectName()} is reached: ${message}`,
        { hint: "Ask for more of it, or lower max_instances.", cause: error },
      );
    }
    if (status !== 400 && status !== 404 && status !== 409) return error;
    return new FleetingdError("INVALID_CONFIG", message, { hint: "Check server_spec.", cause: error });
  }
}

function toImage({ id, os_admin_user, os_type, architecture = "" }: z.output<typeof imageSchema>): Image {
  return { id, adminUser: os_admin_user, os: os_type, arch: ARCHITECTURES[architecture] };
}

function noImage(message: string): FleetingdError {
  return new FleetingdError("INVALID_CONFIG", message);
}
