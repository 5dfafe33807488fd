import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { credentials, status as Status } from "@grpc/grpc-js";
import { Groups } from "../../../src/api/groups.ts";
import { type ApiServer, startApiServer } from "../../../src/api/server.ts";
import { createDaemonService, type DaemonFacade } from "../../../src/api/service.ts";
import { DaemonClient } from "../../../src/gen/fleetingd.ts";
import { callUnary } from "../../../src/host/grpc.ts";
import { waitFor } from "../../../src/host/wait.ts";
import { silentLogger } from "../../../src/log.ts";

/** As many as the daemon takes, over more connections than one may have calls. */
const MOST = 512;
const CONNECTIONS = 16;
const TIMEOUT_MS = 60_000;

const neverAsked = (): never => assert.fail("this call was to be refused");
const NO_HISTORY = { list: neverAsked, follow: neverAsked };

describe("requests", () => {
  let directory: string;
  let socketPath: string;
  let server: ApiServer;
  let underWay = 0;
  let release: () => void = () => undefined;
  const released = new Promise<void>((resolve) => {
    release = resolve;
  });
  const clients: DaemonClient[] = [];

  const daemon: DaemonFacade = {
    version: "1",
    status: neverAsked,
    poolFor: neverAsked,
    prebuild: neverAsked,
    drain: neverAsked,
    remove: neverAsked,
    collectGarbage: neverAsked,
    metrics: neverAsked,
    onCall: () => undefined,
    events: neverAsked,
    history: { events: NO_HISTORY, logs: NO_HISTORY },
    async images() {
      underWay += 1;
      await released;
      return { images: [] };
    },
  };
  const images = (client: DaemonClient | undefined) =>
    client === undefined ? assert.fail() : callUnary(client.images.bind(client), {}, TIMEOUT_MS);

  before(async () => {
    directory = await mkdtemp(join(tmpdir(), "fleetingd-limits-"));
    socketPath = join(directory, "daemon.sock");
    const service = createDaemonService(daemon, new Groups(), silentLogger);
    server = await startApiServer({ socketPath, socketGroup: undefined, service, logger: silentLogger });
    for (let n = 0; n < CONNECTIONS; n++) {
      // Of its own: grpc-js shares connections otherwise.
      const options = { "grpc.use_local_subchannel_pool": 1 };
      clients.push(new DaemonClient(`unix:${socketPath}`, credentials.createInsecure(), options));
    }
  });

  after(async () => {
    release();
    for (const client of clients) client.close();
    await server.close();
    await rm(directory, { recursive: true });
  });

  test("that are larger than a configuration can be are refused", async () => {
    const [client] = clients;
    const stream = client?.attach({ pluginConfig: "x".repeat(2 * 1024 ** 2), group: "" });
    const [code] = await new Promise<[number | undefined]>((resolve) =>
      stream?.once("error", (error: Error & { code?: number }) => resolve([error.code])),
    );
    assert.equal(code, Status.RESOURCE_EXHAUSTED);
  });

  test("beyond a number are refused, whatever connections they come by, until others are answered", async () => {
    const answers = Array.from({ length: MOST }, (_, n) => images(clients[n % CONNECTIONS]));
    await waitFor(async () => (underWay === MOST ? true : undefined), {
      timeoutMs: TIMEOUT_MS,
      intervalMs: 10,
      what: "all calls to be under way",
    });
    const tooMany = { code: Status.RESOURCE_EXHAUSTED, message: /512 requests to answer already/ };
    await assert.rejects(images(clients[0]), tooMany);
    await assert.rejects(images(clients[1]), tooMany);
    release();
    await Promise.all(answers);
    await images(clients[0]);
  });
});
