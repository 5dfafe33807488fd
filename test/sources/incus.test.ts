/** Incus, asked over HTTPS with a client certificate, on a real server. */
import { after, before, describe } from "node:test";
import { z } from "zod";
import { readSource } from "../../src/config/source-keys.ts";
import { silentLogger } from "../../src/log.ts";
import type { IncusConfig } from "../../src/sources/incus/config.ts";
import { openIncus } from "../../src/sources/incus/incus.ts";
import type { Owner } from "../../src/sources/remote/cloud.ts";
import {
  INCUS_CLIENT,
  type IncusServer,
  startIncusServer,
  TINY_IMAGE,
  trustClient,
} from "../helpers/incus-server.ts";
import { needsNamespace } from "../helpers/namespace.ts";
import { failOnLeaks } from "../helpers/suite.ts";
import { describeCloud } from "./conformance.ts";

failOnLeaks();

describe("Incus", { skip: needsNamespace() }, () => {
  let server: IncusServer;
  let config: IncusConfig;

  before(async () => {
    server = await startIncusServer();
    config = configOf(server);
  });
  after(async () => {
    await server.remove();
  });

  describeCloud({
    name: "incus",
    open: () => openIncus(config, silentLogger),
    config: {
      maxInstances: 100,
      maxConcurrentCreates: 8,
      maxConcurrentDeletes: 8,
      requestTimeoutMs: 10_000,
      createTimeoutMs: 60_000,
      deleteTimeoutMs: 60_000,
      pollIntervalMs: 500,
      missedPolls: 2,
      costPerHour: 0,
      username: undefined,
      sshKeyPath: undefined,
    },
    machines: (owner) => instancesOf(server, owner),
    removeBehindOurBack: async (id) => void (await server.inside(`incus delete --force ${id}`)),
    makeStranger: async () => {
      await server.inside(`incus launch ${TINY_IMAGE} stranger >/dev/null`);
      return {
        exists: async () =>
          (await server.inside("incus list --format csv --columns ns stranger")).includes("RUNNING"),
        remove: async () => void (await server.inside("incus delete --force stranger")),
      };
    },
    stopServer: () => server.stop(),
    startServer: () => server.start(),
    revokeCredentials: async () => {
      const list = z
        .array(z.object({ name: z.string(), fingerprint: z.string() }))
        .parse(JSON.parse(await server.inside("incus config trust list --format json")));
      for (const { fingerprint } of list.filter(({ name }) => name === INCUS_CLIENT)) {
        await server.inside(`incus config trust remove ${fingerprint}`);
      }
      return () => trustClient(server);
    },
    limit: async (machines) => {
      await server.inside(`incus project set default limits.instances=${machines}`);
      return async () => void (await server.inside("incus project unset default limits.instances"));
    },
    logsIn: true,
    burst: 50,
    patienceMs: 60_000,
  });
});

function configOf(server: IncusServer): IncusConfig {
  const result = readSource({
    type: "incus",
    url: server.url,
    client_certificate: server.clientCertificate,
    client_key: server.clientKey,
    server_certificate: server.serverCertificate,
    instance_type: "container",
    image: TINY_IMAGE,
    size: "c1-m1",
    request_timeout: "10s",
  });
  if ("source" in result) return result.source as IncusConfig;
  throw new Error(JSON.stringify(result.findings));
}

async function instancesOf(server: IncusServer, { daemon, pool }: Owner): Promise<string[]> {
  const filter = `user.fleetingd.daemon=${daemon} user.fleetingd.pool=${pool}`;
  const answer = await server.inside(`incus list --format json ${filter}`);
  return z
    .array(z.object({ config: z.record(z.string(), z.string()) }))
    .parse(JSON.parse(answer))
    .map(({ config }) => config["user.fleetingd.instance"] ?? "");
}
