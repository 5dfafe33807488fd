/** Incus, asked over HTTPS with a client certificate, on a real server. */
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { after, before, describe, test } from "node:test";
import { z } from "zod";
import { readSource } from "../../src/config/source-keys.ts";
import { describeError, type FleetingdError } from "../../src/errors.ts";
import { run } from "../../src/host/run.ts";
import { silentLogger } from "../../src/log.ts";
import type { IncusConfig } from "../../src/sources/incus/config.ts";
import { openIncus } from "../../src/sources/incus/incus.ts";
import type { Owner } from "../../src/sources/remote/cloud.ts";
import { ROOT } from "../helpers/daemon.ts";
import {
  INCUS_CLIENT,
  type IncusServer,
  incusKeys,
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
    limitSaid: /maximum number of instances in project/,
    logsIn: true,
    burst: 50,
    patienceMs: 60_000,
  });

  test("what instances are made of and is not there is told at once, all of it", async () => {
    const examine = async (more: Partial<IncusConfig>): Promise<void> => {
      const cloud = await openIncus({ ...config, ...more }, silentLogger);
      await cloud.examine?.(AbortSignal.timeout(60_000)).finally(() => cloud.close?.());
    };
    await examine({});
    const [fingerprint = ""] = (await server.inside("incus image list --format csv --columns F")).split("\n");
    await examine({ image: fingerprint, storagePool: "default" });
    await examine({ image: "images:debian/12/cloud" });
    await assert.rejects(examine({ image: "nope", profiles: ["default", "none"], storagePool: "no" }), {
      code: "INVALID_CONFIG",
      message:
        "there is no image nope (image); there is no profile none (profiles); there is no storage pool no (storage_pool)",
    });
  });

  test("what the how-to says gives access to one project, and to no other", async () => {
    const [certificate = "", access = ""] = await shellBlocks("incus.md");
    const directory = dirname(server.serverCertificate);
    const local = certificate.replaceAll("/etc/fleetingd/", `${directory}/`);
    await run("sh", ["-ec", local]);
    await server.inside(`cd /var/lib/incus && ${access.split("\n").filter(Boolean).join(" && ")}`);
    const files = {
      clientCertificate: join(directory, "incus.crt"),
      clientKey: join(directory, "incus.key"),
    };
    const owner: Owner = { daemon: "how-to", pool: "ci" };
    const cloud = await openIncus({ ...config, ...files, project: "ci" }, silentLogger);
    const elsewhere = await openIncus({ ...config, ...files }, silentLogger);
    const signal = AbortSignal.timeout(60_000);
    const machine = { id: "fl-howto", owner, data: {} };
    try {
      const save = async () => undefined;
      const request = { ...machine, authorizedKey: undefined, save, phase: () => undefined, signal };
      assert.notEqual((await cloud.create(request)).address, "");
      assert.deepEqual(
        (await cloud.list(owner, signal)).map(({ id }) => id),
        [machine.id],
      );
      await assert.rejects(elsewhere.create(request), { code: "PERMISSION" });
    } finally {
      await cloud.remove(machine, signal);
      await cloud.close?.();
      await elsewhere.close?.();
    }
  });

  // The last: what is a cluster stays one.
  test("a cluster makes instances on the member, or in the group, that is the target", async () => {
    // A cluster has an address that other members can use.
    const { host } = new URL(server.url);
    await server.inside(`incus config set core.https_address=${host} && incus cluster enable rack1`);
    const owner: Owner = { daemon: "cluster", pool: "ci" };
    const signal = AbortSignal.timeout(60_000);
    const cluster = { ...config, serverCertificate: join(dirname(server.serverCertificate), "cluster.crt") };
    /** @returns where it was made */
    const makeAt = async (target: string): Promise<string> => {
      const cloud = await openIncus({ ...cluster, target }, silentLogger);
      const machine = { id: `fl-${target.replace("@", "in-")}`, owner, data: {} };
      const save = async () => undefined;
      try {
        const request = { ...machine, authorizedKey: undefined, save, phase: () => undefined, signal };
        assert.notEqual((await cloud.create(request)).address, "");
        return (await server.inside(`incus list --format csv --columns L ${machine.id}`)).trim();
      } finally {
        await cloud.remove(machine, signal);
        await cloud.close?.();
      }
    };
    assert.equal(await makeAt("rack1"), "rack1");
    assert.equal(await makeAt("@default"), "rack1");
    await assert.rejects(makeAt("rack9"), (error: FleetingdError) => {
      assert.equal(error.code, "INVALID_CONFIG", error.message);
      assert.match(describeError(error), /rack9/);
      return true;
    });
    assert.deepEqual(await instancesOf(server, owner), []);
  });
});

/** What a page has people type, block by block. */
async function shellBlocks(page: string): Promise<string[]> {
  const text = await readFile(join(ROOT, "docs", page), "utf8");
  return [...text.matchAll(/^```sh\n([\s\S]*?)^```$/gm)].map(([, block = ""]) => block);
}

function configOf(server: IncusServer): IncusConfig {
  const result = readSource({ ...incusKeys(server), request_timeout: "10s" });
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
