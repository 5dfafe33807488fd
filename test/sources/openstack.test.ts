/** OpenStack's real services (see test/helpers/openstack), held to what every source must do, and to what is its own. */
import assert from "node:assert/strict";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { silentLogger } from "../../src/log.ts";
import type { OpenStackConfig, ServerSpec } from "../../src/sources/openstack/config.ts";
import { OpenStackCloud } from "../../src/sources/openstack/openstack.ts";
import type { Cloud, MachineAddress, MachineData, Owner } from "../../src/sources/remote/cloud.ts";
import { RemoteSource } from "../../src/sources/remote/remote-source.ts";
import type { SourceData } from "../../src/sources/source.ts";
import type { Guests } from "../helpers/guests.ts";
import { type CloudUser, logInAs } from "../helpers/openstack/admin.ts";
import { startServerGuests } from "../helpers/openstack/guests.ts";
import { PLENTY } from "../helpers/openstack/initial-state.ts";
import { type OpenStack, startOpenStack } from "../helpers/openstack/server.ts";
import { DEMO_PASSWORD, REGION, urlOf } from "../helpers/openstack/settings.ts";
import { failOnLeaks } from "../helpers/suite.ts";
import { describeCloud } from "./conformance.ts";

failOnLeaks();

const PATIENCE_MS = 300_000;
/** Keystone's default. */
const TOKEN_LIFE_MS = 3_600_000;
const KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIILfmDBRaYyzEcjWzqYhKoeVhJ6UWb1RTQXhkKWUGwkY";

describe("OpenStack", () => {
  let openstack: OpenStack;
  let guests: Guests;
  let network: string;

  before(async () => {
    openstack = await startOpenStack();
    guests = await startServerGuests(openstack.directory);
    const { networks } = (await openstack.demo.call("neutron", "GET", "/v2.0/networks")) as {
      networks: { id: string }[];
    };
    network = networks[0]?.id ?? "";
  });
  after(async () => {
    await guests?.stop();
    await openstack?.stop();
  });

  const config: OpenStackConfig = {
    type: "openstack",
    cloud: "demo",
    cloudsConfig: undefined,
    authFromEnv: false,
    novaMicroversion: "2.79",
    serverSpec: {},
    bootTimeMs: undefined,
    useIgnition: false,
    addressNetwork: undefined,
    maxInstances: 100,
    maxConcurrentCreates: 8,
    maxConcurrentDeletes: 8,
    requestTimeoutMs: 60_000,
    createTimeoutMs: PATIENCE_MS,
    deleteTimeoutMs: PATIENCE_MS,
    pollIntervalMs: 1_000,
    missedPolls: 2,
    costPerHour: 0,
    username: undefined,
    sshKeyPath: undefined,
  };
  const open = (
    more: Partial<OpenStackConfig> = {},
    spec: ServerSpec = {},
    environment = {},
  ): OpenStackCloud =>
    new OpenStackCloud({
      config: {
        ...config,
        cloudsConfig: join(openstack.directory, "clouds.yaml"),
        ...more,
        serverSpec: {
          name: "ci-%d",
          image_name: "debian",
          flavorRef: "1",
          networks: [{ uuid: network }],
          ...spec,
        },
      },
      environment,
    });

  interface Server {
    id: string;
    name: string;
    tags: string[];
    status: string;
  }
  const servers = async (): Promise<Server[]> =>
    ((await openstack.demo.call("nova", "GET", "/servers/detail")) as { servers: Server[] }).servers;
  const serverOf = async (id: string): Promise<Server> => {
    const found = (await servers()).find(({ tags }) => tags.includes(`fleetingd-instance=${id}`));
    assert.ok(found, `there is no server of ${id}`);
    return found;
  };
  const untilGone = async (serverId: string): Promise<void> => {
    while ((await servers()).some(({ id }) => id === serverId))
      await new Promise((done) => setTimeout(done, 300));
  };

  describeCloud({
    name: "OpenStack",
    open: async () => open(),
    config,
    machines: async ({ daemon, pool }) =>
      (await servers())
        .filter(
          ({ tags }) =>
            tags.includes(`fleetingd-daemon=${daemon}`) && tags.includes(`fleetingd-pool=${pool}`),
        )
        .map(({ tags }) => tags.find((tag) => tag.startsWith("fleetingd-instance="))?.split("=")[1] ?? ""),
    removeBehindOurBack: async (id) => {
      const server = await serverOf(id);
      await openstack.demo.call("nova", "DELETE", `/servers/${server.id}`);
      await untilGone(server.id);
    },
    makeStranger: async () => {
      const { images } = (await openstack.demo.call("glance", "GET", "/v2/images")) as {
        images: { id: string }[];
      };
      const server = {
        name: "stranger",
        imageRef: images[0]?.id,
        flavorRef: "1",
        networks: [{ uuid: network }],
        tags: ["fleetingd"],
      };
      const made = (await openstack.demo.call("nova", "POST", "/servers", { server })) as {
        server: { id: string };
      };
      const { id } = made.server;
      return {
        exists: async () => (await servers()).some((it) => it.id === id),
        remove: async () => {
          await openstack.demo.call("nova", "DELETE", `/servers/${id}`);
          await untilGone(id);
        },
      };
    },
    stopServer: () => openstack.stopServices(),
    startServer: () => openstack.startServices(),
    revokeCredentials: async () => {
      const enable = (enabled: boolean) => setUser(openstack.admin, "demo", { enabled });
      await enable(false);
      return () => enable(true);
    },
    limit: async (machines) => {
      const quota = (instances: number) =>
        openstack.admin.call("nova", "PUT", `/os-quota-sets/${openstack.demo.projectId}`, {
          quota_set: { instances },
        });
      await quota((await servers()).length + machines);
      return async () => void (await quota(PLENTY.instances));
    },
    limitSaid: /a quota of the project demo is reached: .*instances/,
    logsIn: true,
    burst: 50,
    patienceMs: PATIENCE_MS,
  });

  describe("by itself", () => {
    const owner: Owner = { daemon: "by-itself", pool: "p" };
    let counter = 0;

    /** Makes a machine, lets `look` look at it, and removes it. */
    async function withMachine<T>(
      cloud: Cloud,
      look: (machine: { id: string; address: MachineAddress; phases: string[] }) => Promise<T>,
      options: { onPhase?: (name: string, id: string) => Promise<void> } = {},
    ): Promise<T> {
      const id = `fl-own${++counter}`;
      let data: MachineData = {};
      const phases: string[] = [];
      const signal = AbortSignal.timeout(PATIENCE_MS);
      const steps: Promise<void>[] = [];
      try {
        const address = await cloud.create({
          id,
          owner,
          authorizedKey: KEY,
          save: async (saved) => {
            data = saved;
          },
          phase: (name) => {
            phases.push(name);
            if (options.onPhase !== undefined) steps.push(options.onPhase(name, id));
          },
          signal,
        });
        await Promise.all(steps);
        return await look({ id, address, phases });
      } finally {
        await cloud.remove({ id, owner, data }, signal);
        await cloud.close?.();
      }
    }

    const failure = async (cloud: Cloud): Promise<Error & { code?: string; hint?: string }> => {
      let thrown: unknown;
      await withMachine(cloud, async () => assert.fail("it was made")).catch((error: unknown) => {
        thrown = error;
      });
      assert.ok(thrown instanceof Error);
      return thrown;
    };

    test("the user is the one that the image names, and other images are set up by Ignition", async () => {
      const guest = async (more: Partial<OpenStackConfig>, spec: ServerSpec) =>
        withMachine(open(more, spec), async ({ id, address }) => {
          const { id: serverId, name } = await serverOf(id);
          const { server } = (await openstack.demo.call("nova", "GET", `/servers/${serverId}`)) as {
            server: Record<string, unknown>;
          };
          return { address, server, name };
        });
      const debian = await guest({}, { tags: ["team-a"], description: "runner", metadata: { a: "b" } });
      assert.equal(debian.address.username, "debian");
      assert.equal(debian.address.arch, "amd64");
      assert.match(debian.name, /^ci-\d+$/);
      assert.equal(debian.server["description"], "runner");
      assert.deepEqual(debian.server["metadata"], { a: "b" });
      assert.ok((debian.server["tags"] as string[]).includes("team-a"));
      const flatcar = await guest({ useIgnition: true }, { image_name: "flatcar" });
      assert.equal(flatcar.address.username, "core");
    });

    test("with boot_time a machine is ready when its console says so, and fails if that does not come", async () => {
      await openstack.setConsole("[   1.0] cloud-init[1]: Cloud-init v. 24.1 running 'init' at now\n");
      const cloud = open({ bootTimeMs: 60_000 });
      const end = `Cloud-init v. 24.1 finished at now\n${"later noise\n".repeat(500)}`;
      const onPhase = async (name: string, id: string): Promise<void> => {
        if (name === "boot") await openstack.setConsole(end, (await serverOf(id)).id);
      };
      await withMachine(cloud, async ({ phases }) => assert.deepEqual(phases, ["build", "boot"]), {
        onPhase,
      });
      const error = await failure(open({ bootTimeMs: 1_000 }));
      assert.equal(error.code, "TIMEOUT");
      assert.match(error.message, /did not end within 1 s \(boot_time\)[\s\S]*running 'init'/);
    });

    test("a build that fails is told with Nova's reason, and leaves neither server nor port", async () => {
      await openstack.steer("fail", "broken-", "the disk is on fire");
      const error = await failure(open({}, { name: "broken-%d" }));
      await openstack.steer("fail", "broken-", undefined);
      assert.match(
        error.message,
        /broken-\d+ could not be built, its status is ERROR: .*the disk is on fire/,
      );
      assert.deepEqual(await servers(), []);
      const { ports } = (await openstack.demo.call("neutron", "GET", "/v2.0/ports")) as { ports: unknown[] };
      assert.deepEqual(ports, []);
    });

    test("a request that can't be is refused with Nova's reason and what to look at", async () => {
      const cases: [Partial<OpenStackConfig>, ServerSpec, RegExp][] = [
        [{}, { image_name: "debain" }, /no image with the name debain \(server_spec\.image_name\)/],
        [
          {},
          { image_name: undefined, imageRef: "00000000-0000-0000-0000-000000000000" },
          /no image with the id 0000.*imageRef/,
        ],
        [{}, { flavorRef: "77" }, /Flavor 77 could not be found.* Check server_spec/],
        [
          {},
          { networks: [{ uuid: "00000000-0000-0000-0000-000000000000" }] },
          /Network .*could not be found.* Check server_spec/,
        ],
        [{}, { security_groups: ["nobody"] }, /nobody.* Check server_spec/i],
        [{}, { key_name: "nobody" }, /key_name.* Check server_spec/],
        [{ novaMicroversion: "2.999" }, {}, /2\.999 is not supported.* Set nova_microversion/],
        [{ addressNetwork: "other" }, {}, /no address in the network "other".*it has some in "ci"/],
      ];
      for (const [more, spec, pattern] of cases) {
        const error = await failure(open(more, spec));
        assert.equal(error.code, "INVALID_CONFIG", error.message);
        assert.match(`${error.message} ${error.hint ?? ""}`, pattern);
      }
    });

    test("what the server says of pauses is kept to, and nothing is made twice", async () => {
      await openstack.requests();
      await openstack.failNext("nova", "POST", "429 Too Many Requests", { "Retry-After": "1" });
      await openstack.failNext("nova", "POST", "503 Service Unavailable", { "Retry-After": "1" });
      await openstack.failNext("nova", "GET", "502 Bad Gateway");
      await withMachine(open(), async ({ id }) => void (await serverOf(id)));
      const creations = (await openstack.requests()).filter((line) =>
        line.startsWith("nova POST /v2.1/servers"),
      );
      assert.deepEqual(creations, [
        "nova POST /v2.1/servers 429",
        "nova POST /v2.1/servers 503",
        "nova POST /v2.1/servers",
      ]);
    });

    test("a server that hangs in BUILD is given up after its time, said, and deleted", async () => {
      const tooShort = { createTimeoutMs: 15_000 };
      const cloud = open(tooShort, { name: "hung-%d" });
      const options = { name: "hung", type: "openstack", owner, cloud, logger: silentLogger };
      const source = new RemoteSource({ ...options, config: { ...config, ...tooShort } });
      const id = "fl-hung";
      let data: SourceData = {};
      const context = {
        id,
        directory: openstack.directory,
        save: async (saved: SourceData) => {
          data = saved;
        },
        phase: () => undefined,
        fellBack: () => undefined,
        signal: AbortSignal.timeout(PATIENCE_MS),
      };
      await openstack.steer("hold", "hung-", "");
      await assert.rejects(source.create(context), {
        code: "TIMEOUT",
        message: /fl-hung was not ready after 15 s.*still in the phase "(create|build)"/,
      });
      assert.equal((await serverOf(id)).status, "BUILD");
      const removal = source.delete({ id, directory: openstack.directory, data }, context.signal);
      // Nova deletes nothing that its driver is at.
      await openstack.steer("hold", "hung-", undefined);
      await removal;
      assert.deepEqual(await servers(), []);
      await cloud.close();
    });

    test("a token is renewed before it ends, once for all who need it", async (context) => {
      const cloud = open();
      const list = () => cloud.list(owner, AbortSignal.timeout(PATIENCE_MS));
      const logins = async () =>
        (await openstack.requests()).filter((line) => line === "keystone POST /v3/auth/tokens").length;
      const now = Date.now();
      context.mock.timers.enable({ apis: ["Date"], now });
      await openstack.requests();
      await list();
      assert.equal(await logins(), 1);
      context.mock.timers.setTime(now + TOKEN_LIFE_MS - 70_000);
      await list();
      assert.equal(await logins(), 0);
      context.mock.timers.setTime(now + TOKEN_LIFE_MS - 50_000);
      await Promise.all([list(), list(), list()]);
      assert.equal(await logins(), 1);
      await cloud.close();
    });

    test("a token that is refused is renewed, and revoked credentials are said", async () => {
      const cloud = open();
      const list = () => cloud.list(owner, AbortSignal.timeout(PATIENCE_MS));
      await list();
      await openstack.requests();
      await openstack.failNext("nova", "GET", "401 Unauthorized");
      await list();
      const logins = (await openstack.requests()).filter((line) => line === "keystone POST /v3/auth/tokens");
      assert.equal(logins.length, 1);
      await setUser(openstack.admin, "demo", { enabled: false });
      // Services remember for two seconds whom a token is of.
      await new Promise((done) => setTimeout(done, 3_000));
      await assert.rejects(list(), { code: "PERMISSION", message: /refuses the credentials/ });
      await setUser(openstack.admin, "demo", { enabled: true });
      assert.deepEqual(await list(), []);
      await cloud.close();
    });

    test("an application credential does as well as a password, and so does the environment", async () => {
      const user = await logInAs({ name: "demo", password: DEMO_PASSWORD, project: "demo" });
      const path = `/users/${user.userId}/application_credentials`;
      const made = (await user.call("keystone", "POST", path, {
        application_credential: { name: "ci" },
      })) as {
        application_credential: { id: string; secret: string };
      };
      const { id, secret } = made.application_credential;
      const cloudsConfig = join(openstack.directory, "credential.yaml");
      const auth = {
        auth_url: urlOf("keystone"),
        application_credential_id: id,
        application_credential_secret: secret,
      };
      await writeFile(cloudsConfig, JSON.stringify({ clouds: { demo: { auth, region_name: REGION } } }));
      const list = async (cloud: Cloud): Promise<unknown> => {
        try {
          return await cloud.list(owner, AbortSignal.timeout(PATIENCE_MS));
        } finally {
          await cloud.close?.();
        }
      };
      assert.deepEqual(await list(open({ cloudsConfig })), []);
      await user.call("keystone", "DELETE", `${path}/${id}`);
      await assert.rejects(list(open({ cloudsConfig })), (error: Error) => {
        assert.match(error.message, /refuses the credentials/);
        assert.ok(!JSON.stringify([error.message, error.cause]).includes(secret));
        return true;
      });
      const environment = {
        OS_AUTH_URL: urlOf("keystone"),
        OS_USERNAME: "demo",
        OS_PASSWORD: DEMO_PASSWORD,
        OS_PROJECT_NAME: "demo",
        OS_USER_DOMAIN_NAME: "Default",
        OS_PROJECT_DOMAIN_NAME: "Default",
        OS_REGION_NAME: REGION,
      };
      assert.deepEqual(await list(open({ cloud: undefined, authFromEnv: true }, {}, environment)), []);
      await assert.rejects(
        list(open({ cloud: undefined, authFromEnv: true }, {}, { ...environment, OS_REGION_NAME: "moon" })),
        {
          code: "INVALID_CONFIG",
          message: /no public endpoint of the service "compute" in the region moon/,
        },
      );
    });
  });

  test("what server_spec names and is not there is told at once, all of it", async () => {
    const examine = (spec: ServerSpec) => open({}, spec).examine(AbortSignal.timeout(PATIENCE_MS));
    await examine({});
    await assert.rejects(examine({ image_name: "nope" }), /there is no image with the name nope/);
    await assert.rejects(examine({ flavorRef: "nope", key_name: "none", networks: [{ uuid: "0" }] }), {
      code: "INVALID_CONFIG",
      message:
        "there is no flavor nope (server_spec.flavorRef); there is no key pair none (server_spec.key_name); " +
        "there is no network 0 (server_spec.networks)",
    });
  });
});

async function setUser(admin: CloudUser, name: string, user: Record<string, unknown>): Promise<void> {
  const { users } = (await admin.call("keystone", "GET", `/users?name=${name}`)) as {
    users: { id: string }[];
  };
  await admin.call("keystone", "PATCH", `/users/${users[0]?.id}`, { user });
}
