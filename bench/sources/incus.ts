/** Incus: the real server, with containers, for virtual machines need KVM. */
import { dirname, join } from "node:path";
import { z } from "zod";
import { readSource } from "../../src/config/source-keys.ts";
import { ApiClient } from "../../src/host/api-client.ts";
import { sleep } from "../../src/host/wait.ts";
import { silentLogger } from "../../src/log.ts";
import type { IncusConfig } from "../../src/sources/incus/config.ts";
import { openIncus } from "../../src/sources/incus/incus.ts";
import { Operations, operationSchema } from "../../src/sources/incus/operations.ts";
import { startIncusServer, TINY_IMAGE } from "../../test/helpers/incus-server.ts";
import { countHttp, startRelay } from "./counting.ts";
import { type CloudBench, listOfMany, serveAnswers, TIMEOUT_MS } from "./site.ts";

const MACHINES = 16;
/** How long fleeting-plugin-incus waits before it asks whether a machine's system is up. */
const PAUSE_MS = 2_000;

export const incus: CloudBench = {
  name: "incus",
  machines: MACHINES,
  creates: 8,
  deletes: 8,
  async start() {
    const server = await startIncusServer();
    const socketPath = join(dirname(server.clientKey), "counted.socket");
    const relay = await startRelay(socketPath, server.socketPath, countHttp);
    return {
      open: () => openIncus(configOf(socketPath), silentLogger),
      requests: () => relay.count,
      original: (made) => makeAsTheOriginal(socketPath, made),
      async stop() {
        await relay.stop();
        await server.remove();
      },
    };
  },
  async startWithMany(count) {
    const incusd = await startIncusServer();
    const list = async () =>
      JSON.parse(await incusd.inside("incus query '/1.0/instances?recursion=1'")) as unknown[];
    const cloud = await openIncus(configOf(incusd.socketPath), silentLogger);
    const metadata = await listOfMany(cloud, count, list).finally(() => incusd.remove());
    const server = await serveAnswers(() => ({
      "GET /1.0/instances": { body: JSON.stringify({ metadata }) },
    }));
    const config = { ...configOf("/nowhere"), url: server.url };
    return { cloud: await openIncus(config, silentLogger), stop: server.stop };
  },
};

function configOf(socketPath: string): IncusConfig {
  const keys = { type: "incus", instance_type: "container", image: TINY_IMAGE, size: "c1-m1" };
  const result = readSource({ ...keys, socket: socketPath });
  if ("source" in result) return result.source as IncusConfig;
  throw new Error(JSON.stringify(result.findings));
}

/**
 * One machine after the other, as fleeting-plugin-incus makes and deletes them by Incus's own client, which asks for each operation once
 * and hears of its end by events. What a virtual machine would do in its time takes none here: it is up, and stops, at once.
 */
async function makeAsTheOriginal(socketPath: string, made: () => void): Promise<void> {
  const signal = AbortSignal.timeout(TIMEOUT_MS);
  const server = "Incus";
  const api = new ApiClient({
    server,
    baseUrl: "http://incus",
    socketPath,
    requestTimeoutMs: TIMEOUT_MS,
    maxConcurrent: 1,
  });
  const websocket = { url: "ws://incus/1.0/events", socketPath, timeoutMs: TIMEOUT_MS };
  const operations = new Operations({ api, websocket, onLifecycle: () => undefined, logger: silentLogger });
  const ask = async (
    method: "GET" | "POST" | "PUT" | "DELETE",
    path: string,
    json?: unknown,
  ): Promise<unknown> => {
    const answer = await api.request({ method, path, ...(json === undefined ? {} : { json }), signal });
    return z.object({ metadata: z.unknown() }).parse(answer.json()).metadata;
  };
  const operate = async (method: "POST" | "PUT" | "DELETE", path: string, json?: unknown): Promise<void> => {
    const { id } = operationSchema.parse(await ask(method, path, json));
    operations.listen();
    await operations.finish(operationSchema.parse(await ask("GET", `/1.0/operations/${id}`)), signal);
  };
  await ask("GET", "/1.0");
  const paths = Array.from({ length: MACHINES }, (_, index) => `/1.0/instances/original-${index}`);
  const look = (path: string) => ask("GET", `${path}?recursion=1`);
  for (const path of paths) {
    const name = path.split("/").at(-1);
    const source = { type: "image", alias: TINY_IMAGE };
    await operate("POST", "/1.0/instances", {
      name,
      source,
      type: "container",
      instance_type: "c1-m1",
      start: true,
    });
    await sleep(PAUSE_MS, signal);
    await operate("POST", `${path}/exec`, { command: ["true"], "wait-for-websocket": false });
  }
  // For their addresses.
  for (const path of paths) await look(path);
  made();
  for (const path of paths) {
    await look(path);
    await look(path);
    await operate("PUT", `${path}/state`, { action: "stop", force: true });
    await operate("DELETE", path);
  }
  await operations.close();
  api.close();
}
