/** OpenStack: the real services with Nova's fake driver, whose servers are ACTIVE as soon as they are made. */
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { readSource } from "../../src/config/source-keys.ts";
import { sleep } from "../../src/host/wait.ts";
import type { OpenStackConfig } from "../../src/sources/openstack/config.ts";
import { OpenStackCloud } from "../../src/sources/openstack/openstack.ts";
import { logInAs } from "../../test/helpers/openstack/admin.ts";
import { startOpenStack } from "../../test/helpers/openstack/server.ts";
import { CLOUDS_YAML, DEMO_PASSWORD, REGION, urlOf } from "../../test/helpers/openstack/settings.ts";
import { type Answer, type CloudBench, listOfMany, serveAnswers } from "./site.ts";

const MACHINES = 16;
const SPEC = { flavorRef: "1", networks: "auto" };
const IMAGE = "debian";
/** How often GitLab Runner asks fleeting-plugin-openstack for its instances as long as it expects some. */
const UPDATE_MS = 2_000;

export const openstack: CloudBench = {
  name: "openstack",
  machines: MACHINES,
  creates: 8,
  deletes: 8,
  // Made eight at a time, the first sixteen took three times as long as the next.
  warmups: 1,
  async start() {
    const services = await startOpenStack();
    let requests = 0;
    return {
      open: async () => openCloud(services.directory),
      async requests() {
        requests += (await services.requests()).length;
        return requests;
      },
      original: makeAsTheOriginal,
      stop: () => services.stop(),
    };
  },
  async startWithMany(count) {
    const services = await startOpenStack();
    const list = async () =>
      ((await services.demo.call("nova", "GET", "/servers/detail")) as { servers: unknown[] }).servers;
    const many = listOfMany(openCloud(services.directory), count, list).finally(() => services.stop());
    const servers = { body: JSON.stringify({ servers: await many }) };
    const server = await serveAnswers((url) => ({
      "POST /v3/auth/tokens": tokenFor(url),
      "GET /servers/detail": servers,
    }));
    const directory = await mkdtemp(join(tmpdir(), "openstack-"));
    const clouds = CLOUDS_YAML.replaceAll(urlOf("keystone"), `${server.url}/v3`);
    await writeFile(join(directory, "clouds.yaml"), clouds);
    return {
      cloud: openCloud(directory),
      async stop() {
        await server.stop();
        await rm(directory, { recursive: true });
      },
    };
  },
};

function openCloud(directory: string): OpenStackCloud {
  const server_spec = { ...SPEC, name: "ci-%d", image_name: IMAGE };
  const keys = {
    type: "openstack",
    cloud: "demo",
    clouds_config: join(directory, "clouds.yaml"),
    server_spec,
  };
  const result = readSource(keys);
  if (!("source" in result)) throw new Error(JSON.stringify(result.findings));
  return new OpenStackCloud({ config: result.source as OpenStackConfig, environment: {} });
}

function tokenFor(url: string): Answer {
  const endpoints = [{ interface: "public", region_id: REGION, url }];
  const life = { issued_at: "2026-01-01T00:00:00Z", expires_at: "2026-01-02T00:00:00Z" };
  const token = { ...life, catalog: [{ type: "compute", endpoints }] };
  return { body: JSON.stringify({ token }), headers: { "x-subject-token": "token" } };
}

/** One request after the other, as fleeting-plugin-openstack makes them, and its lists of the whole project, which GitLab Runner asks for. */
async function makeAsTheOriginal(made: () => void): Promise<void> {
  const user = await logInAs({ name: "demo", password: DEMO_PASSWORD, project: "demo" });
  const nova = (method: string, path: string, body?: Record<string, unknown>) =>
    user.call("nova", method, path, body) as Promise<Record<string, never>>;
  const list = async (): Promise<{ id: string; status: string }[]> =>
    (await nova("GET", "/servers/detail"))["servers"] ?? [];
  // The microversion is looked for, and instances from before.
  await nova("GET", "/");
  await list();
  for (let index = 0; index < MACHINES; index++) {
    const { images } = (await user.call("glance", "GET", `/v2/images?name=${IMAGE}`)) as {
      images: { id: string }[];
    };
    const server = {
      ...SPEC,
      name: `original-${index}`,
      imageRef: images[0]?.id,
      metadata: { "fleeting-cluster": "bench" },
    };
    await nova("POST", "/servers", { server });
  }
  let servers = await list();
  for (; servers.some(({ status }) => status !== "ACTIVE"); servers = await list()) await sleep(UPDATE_MS);
  for (const { id } of servers) await nova("GET", `/servers/${id}`);
  made();
  for (const { id } of servers) await nova("DELETE", `/servers/${id}`);
  while ((await list()).length > 0) await sleep(UPDATE_MS);
}
