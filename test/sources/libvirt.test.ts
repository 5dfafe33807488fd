/** libvirt, asked over TLS as from another host, on a real daemon with emulated domains. */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { readSource } from "../../src/config/source-keys.ts";
import { sourceChecks } from "../../src/doctor/sources.ts";
import { run } from "../../src/host/run.ts";
import { waitForLogin } from "../../src/host/ssh.ts";
import { silentLogger } from "../../src/log.ts";
import type { LibvirtConfig } from "../../src/sources/libvirt/config.ts";
import { openLibvirt } from "../../src/sources/libvirt/libvirt.ts";
import { volumesOf } from "../../src/sources/libvirt/tags.ts";
import type { MachineRequest, Owner } from "../../src/sources/remote/cloud.ts";
import { RemoteSource } from "../../src/sources/remote/remote-source.ts";
import type { ConnectInfo, SourceData } from "../../src/sources/source.ts";
import { openSshAccess } from "../helpers/libvirt-server/ssh-access.ts";
import {
  BRIDGE,
  howTo,
  type LibvirtServer,
  libvirtKeys,
  startLibvirtServer,
  TINY_VOLUME,
} from "../helpers/libvirt-server.ts";
import { needsNamespace } from "../helpers/namespace.ts";
import { failOnLeaks } from "../helpers/suite.ts";
import { describeCloud } from "./conformance.ts";
import { describeOverflow } from "./overflow.ts";

const PATIENCE_MS = 120_000;
const POOL = "/var/lib/libvirt/images";
const KIB_PER_MACHINE = 640;

failOnLeaks();

describe("libvirt", { skip: needsNamespace() }, () => {
  let server: LibvirtServer;
  const path = process.env["PATH"];

  before(async () => {
    server = await startLibvirtServer();
    process.env["PATH"] = `${server.programs}:${path}`;
  });
  after(async () => {
    process.env["PATH"] = path;
    await server.remove();
  });

  const configOf = (keys: Record<string, unknown> = {}): LibvirtConfig => {
    const result = readSource({ ...libvirtKeys(server), request_timeout: "20s", ...keys });
    if ("source" in result) return result.source as LibvirtConfig;
    throw new Error(JSON.stringify(result.findings));
  };
  const domains = async (): Promise<string[]> =>
    (await server.inside("virsh -q list --all --name")).split("\n").filter((name) => name !== "");
  const volumes = async (): Promise<string[]> =>
    (await server.inside(`ls ${POOL}`)).split("\n").filter((name) => name !== "" && name !== TINY_VOLUME);
  /** A domain that nobody has tagged, or that has another domain's tag. */
  const makeStranger = async (metadata = "") => {
    const xml = `<domain type='qemu'><name>stranger</name>${metadata}<memory unit='MiB'>16</memory><os><type>hvm</type></os>
      <devices><disk type='file'><driver name='qemu' type='raw'/><source file='${POOL}/stranger.img'/><target dev='vda'/></disk></devices></domain>`;
    await server.inside(`virsh -q vol-create-as default stranger.img 1MiB --format raw`);
    await server.inside(`echo "${xml.replaceAll("\n", " ").replaceAll('"', '\\"')}" >/run/stranger.xml`);
    await server.inside("virsh -q create /run/stranger.xml");
    return {
      exists: async () =>
        (await domains()).includes("stranger") && (await volumes()).includes("stranger.img"),
      remove: async () =>
        void (await server.inside(
          "virsh -q destroy stranger && virsh -q vol-delete --pool default stranger.img",
        )),
    };
  };

  describeCloud({
    name: "libvirt",
    // Many at once fit on a small host that way.
    open: () => openLibvirt(configOf({ domain_template: server.bareTemplate })),
    config: {
      maxInstances: 100,
      maxConcurrentCreates: 8,
      maxConcurrentDeletes: 8,
      requestTimeoutMs: 20_000,
      createTimeoutMs: PATIENCE_MS,
      deleteTimeoutMs: 60_000,
      pollIntervalMs: 500,
      missedPolls: 2,
      costPerHour: 0,
      username: undefined,
      sshKeyPath: undefined,
    },
    machines: async ({ daemon, pool }) => {
      const ids: string[] = [];
      for (const name of await domains()) {
        // It may be gone by now.
        const xml = await server.inside(`virsh dumpxml ${name} 2>/dev/null || true`);
        if (xml.includes(`daemon="${daemon}" pool="${pool}"`)) ids.push(name);
      }
      return ids;
    },
    removeBehindOurBack: async (id) => void (await server.inside(`virsh -q destroy ${id}`)),
    makeStranger: () => makeStranger(),
    stopServer: () => server.stop(),
    startServer: () => server.start(),
    revokeCredentials: async () => {
      await server.allowClient(false);
      return () => server.allowClient(true);
    },
    limit: async (machines) => {
      const [used = "0"] = (await server.inside(`df --output=used -k ${POOL} | tail -n 1`))
        .trim()
        .split("\n");
      const size = Number(used) + machines * KIB_PER_MACHINE;
      await server.inside(`mount -o remount,size=${size}k ${POOL}`);
      return async () => void (await server.inside(`mount -o remount,size=1g ${POOL}`));
    },
    limitSaid: /No space left on device/,
    logsIn: false,
    burst: 50,
    patienceMs: PATIENCE_MS,
  });

  test("nothing is left of all these in the storage pool", async () => {
    assert.deepEqual(await domains(), []);
    assert.deepEqual(await volumes(), []);
  });

  test("volumes without a domain are found, and a copy of our own domain is a stranger", async () => {
    const owner: Owner = { daemon: "d", pool: "p" };
    const signal = AbortSignal.timeout(PATIENCE_MS);
    const cloud = await openLibvirt(configOf({ domain_template: server.bareTemplate, uri: server.uri }));
    const request: MachineRequest = {
      id: "fl-one",
      owner,
      authorizedKey: undefined,
      save: async () => undefined,
      phase: () => undefined,
      signal,
    };
    await cloud.create(request);
    const metadata = await server.inside("virsh metadata fl-one --uri urn:fleetingd:instance");
    const copied = metadata.trim().replace("<instance", "<f:instance xmlns:f='urn:fleetingd:instance'");
    const stranger = await makeStranger(`<metadata>${copied}</metadata>`);
    await server.inside("virsh -q destroy fl-one");
    assert.deepEqual(
      (await cloud.list(owner, signal)).map(({ id, state }) => [id, state]),
      [["fl-one", "gone"]],
    );
    await cloud.remove({ id: "fl-one", owner, data: {} }, signal);
    assert.deepEqual(await cloud.list(owner, signal), []);
    assert.equal(await stranger.exists(), true);
    await stranger.remove();
    assert.deepEqual(await volumes(), []);
    assert.equal(Object.keys(volumesOf({ ...owner, instance: "fl-one" })).length, 2);
  });

  /** As the pool makes one. @returns how it is reached, and its deletion */
  const makeInstance = async (id: string, config: LibvirtConfig) => {
    const owner: Owner = { daemon: "login", pool: "p" };
    const cloud = await openLibvirt(config);
    const about = { name: "rack", type: "libvirt", owner, cloud, config, logger: silentLogger };
    const source = new RemoteSource(about);
    let data: SourceData = {};
    const save = async (saved: SourceData) => {
      data = saved;
    };
    const signal = AbortSignal.timeout(PATIENCE_MS);
    const context = { id, directory: "/", save, phase: () => undefined, fellBack: () => undefined, signal };
    const { connectInfo } = await source.create(context);
    return { owner, connectInfo, remove: () => source.delete({ id, directory: "/", data }, signal) };
  };
  const hostnameBySsh = async (connectInfo: ConnectInfo): Promise<string> => {
    const options = { timeoutMs: PATIENCE_MS, signal: AbortSignal.timeout(PATIENCE_MS) };
    const login = await waitForLogin({ ...connectInfo, hostKey: undefined }, options);
    const { stdout } = await login.exec("hostname", PATIENCE_MS);
    login.close();
    return stdout.trim();
  };

  test("a domain whose agent tells its address is logged in to with its own key, also while the daemon is away", async () => {
    await server.giveNoLeases();
    const keys = { name_template: "ci-$random", address_from: "agent" };
    const { connectInfo, remove } = await makeInstance("fl-login", configOf(keys));
    assert.deepEqual([connectInfo.username, connectInfo.arch], ["root", "amd64"]);
    assert.equal(await server.inside("cat /sys/class/net/vnet*/brport/isolated"), "1\n");
    await server.stop();
    assert.equal(await hostnameBySsh(connectInfo), "ci-fl-login");
    await assert.rejects(remove(), { code: "UNAVAILABLE" });
    await server.start();
    assert.deepEqual(await domains(), ["ci-fl-login"]);
    await remove();
    assert.deepEqual(await domains(), []);
  });

  test("another host is asked by SSH, as the how-to says, and a user's own session by SSH or on its host", async () => {
    const access = await openSshAccess(server);
    process.env["PATH"] = `${access.programs}:${process.env["PATH"]}`;
    try {
      const blocks = (await howTo()).map((block) => block.replaceAll("/etc/fleetingd", access.directory));
      const blockWith = (word: string): string => blocks.find((block) => block.includes(word)) ?? "";
      await run("sh", ["-ec", blockWith("ssh-copy-id")], { env: access.env });
      const uri = `qemu+ssh://ci@${access.host}/system?keyfile=${access.directory}/libvirt_key`;
      const patient = AbortSignal.timeout(PATIENCE_MS);
      await (await openLibvirt(configOf({ uri }))).examine(patient);

      await server.inside(
        blockWith("bridge-helper").replaceAll("br0", BRIDGE).trim().split("\n").join(" && "),
      );
      const making = `${blockWith("pool-define-as")}virsh vol-create-as default ${TINY_VOLUME} 1MiB --format qcow2`;
      await run("sh", ["-ec", making]);
      const session = uri.replace("/system", "/session");
      const keys = { bridge: BRIDGE, isolated: false, address_from: "arp" };
      const { owner, connectInfo } = await makeInstance("fl-session", configOf({ ...keys, uri: session }));
      assert.equal(await hostnameBySsh(connectInfo), "fl-session");
      assert.equal(await server.inside("ps -o user= -C qemu-system-x86_64 | sort -u"), "ci\n");
      // Why the source has to say that they are not kept apart.
      assert.equal(await server.inside("cat /sys/class/net/tap*/brport/isolated"), "0\n");
      assert.deepEqual(await domains(), []);
      const near = await openLibvirt(configOf({ ...keys, uri: server.sessionUri }));
      const [listed, ...others] = await near.list(owner, patient);
      assert.deepEqual([listed, others], [{ id: "fl-session", state: "running" }, []]);
      await near.remove({ id: "fl-session", owner, data: {} }, patient);
      assert.equal(await server.inside("ls /home/ci/images"), `${TINY_VOLUME}\n`);
    } finally {
      process.env["PATH"] = `${server.programs}:${path}`;
      await access.remove();
    }
  });

  describeOverflow({
    name: "libvirt",
    machines: 1,
    source: () => libvirtKeys(server),
    there: domains,
    stopServer: () => server.stop(),
    startServer: () => server.start(),
  });

  test("a template is made as the how-to says", async () => {
    const block = (await howTo()).find((commands) => commands.includes("vol-upload")) ?? "";
    await server.inside("qemu-img create -q -f qcow2 /run/debian-12-genericcloud-amd64.qcow2 2M");
    await server.inside(`cd /run && ${block.trim().split("\n").join(" && ")}`);
    const cloud = await openLibvirt(configOf({ image: "debian-12.qcow2" }));
    await cloud.examine(AbortSignal.timeout(PATIENCE_MS));
    await server.inside("virsh -q vol-delete --pool default debian-12.qcow2");
  });

  test("what is missing is said by the doctor before anybody waits for it", async () => {
    const messages = async (keys: Record<string, string>): Promise<string> => {
      const [check] = sourceChecks({ sources: { rack: configOf(keys) } });
      const findings = (await check?.look()) ?? [];
      return findings.map(({ verdict, message }) => `${verdict}: ${message}`).join("\n");
    };
    assert.match(await messages({}), /^ok: source rack: the libvirt daemon qemu\+tls:.* answers$/);
    assert.match(await messages({ image: "nope" }), /^fail: .*Storage volume not found/);
    assert.match(await messages({ storage_pool: "nope" }), /^fail: .*Storage pool not found/);
    assert.match(await messages({ network: "nope" }), /^fail: .*Network not found/);
    assert.match(
      await messages({ uri: "qemu+unix:///system?socket=/nope" }),
      /^fail: .*can't be asked: Failed to connect socket/,
    );
    await server.inside("virsh -q net-destroy default");
    await assert.rejects((await openLibvirt(configOf())).examine(AbortSignal.timeout(PATIENCE_MS)), {
      code: "INVALID_CONFIG",
      message: /^the network default of .* is not active$/,
    });
    await server.inside("virsh -q net-start default");
    process.env["PATH"] = path;
    assert.match(await messages({}), /^fail: .*the program virsh was not found/);
    process.env["PATH"] = `${server.programs}:${path}`;
  });
});
