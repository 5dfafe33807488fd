import assert from "node:assert/strict";
import { chmod, chown, mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, test } from "node:test";
import { status as Status } from "@grpc/grpc-js";
import { type ConnectorConfig, State } from "../../../src/gen/fleeting.ts";
import { InstanceState } from "../../../src/gen/fleetingd.ts";
import { sleep, waitFor } from "../../../src/host/wait.ts";
import {
  createWorld,
  type StandInDaemon,
  startStandInDaemon,
  type World,
} from "../../helpers/stand-in-daemon.ts";
import { failOnLeaks } from "../../helpers/suite.ts";
import { grpcError, Host, type HostOptions } from "./host.ts";

failOnLeaks();

const NANOSECONDS = 1_000_000_000n;
const NO_CONNECTOR: ConnectorConfig = {
  os: "",
  arch: "",
  protocol: "",
  username: "",
  password: "",
  key: Buffer.alloc(0),
  useStaticCredentials: false,
  keepalive: 0n,
  timeout: 0n,
  protocolPort: 0n,
};

/** Each has a plugin and a daemon of its own, and some only wait. */
const AT_ONCE = 4;

describe("the plugin and the daemon", { concurrency: AT_ONCE }, async () => {
  const directory = await mkdtemp(join(tmpdir(), "plugin-daemon-"));
  after(() => rm(directory, { recursive: true }));
  let sockets = 0;
  const freshSocket = (): string => join(directory, `${++sockets}.sock`);

  interface Scene {
    host: Host;
    world: World;
    socket: string;
    daemon(): StandInDaemon;
    stopDaemon(): Promise<void>;
    startDaemon(): Promise<void>;
  }

  /** A plugin and a stand-in daemon; both are gone afterwards. */
  async function withPlugin(
    options: { world?: Partial<World>; host?: HostOptions; daemonless?: boolean },
    body: (scene: Scene) => Promise<void>,
  ): Promise<void> {
    const socket = freshSocket();
    const world = createWorld(options.world);
    let daemon = options.daemonless ? undefined : await startStandInDaemon(socket, world);
    const host = await Host.start({
      ...options.host,
      env: { FLEETINGD_SOCKET: socket, TMPDIR: directory, ...options.host?.env },
    });
    try {
      await body({
        host,
        world,
        socket,
        daemon: () => daemon ?? assert.fail("the daemon is stopped"),
        stopDaemon: async () => {
          await daemon?.stop();
          daemon = undefined;
        },
        startDaemon: async () => {
          daemon = await startStandInDaemon(socket, world);
        },
      });
      host.log();
    } finally {
      await host.close();
      await daemon?.stop();
    }
  }

  test("Init hands the configuration over as it is, and tells the group and its size", async () => {
    await withPlugin({ world: { maxSize: 7 } }, async ({ host, world }) => {
      const config = { vm_subnet: "172.16.120.", nested: { text: 'ü "quoted" \n' } };
      const info = await host.init(config);
      assert.equal(info.id, "stand-in/1");
      assert.equal(info.maxSize, 7);
      assert.match(info.version, /^\d+\.\d+\.\d+/);
      assert.deepEqual(info.capabilities, []);
      assert.deepEqual(world.attached, [{ pluginConfig: JSON.stringify(config), group: "" }]);
    });
  });

  test("plugin_config may be null", async () => {
    await withPlugin({}, async ({ host, world }) => {
      await host.init(null);
      assert.equal(world.attached[0]?.pluginConfig, "null");
    });
  });

  test("plugin_config's socket goes before the environment's", async () => {
    await withPlugin({ host: { env: { FLEETINGD_SOCKET: "/nonexistent" } } }, async ({ host, socket }) => {
      assert.equal((await host.init({ socket })).id, "stand-in/1");
    });
  });

  test("the daemon's verdict on a wrong configuration reaches the runner word for word", async () => {
    const refusal =
      'vm_num_cpu_core is unknown: did you mean "vm_num_cpu_cores"?\nvm_memory_mb must be a number';
    await withPlugin({ world: { refusal } }, async ({ host, world }) => {
      await assert.rejects(host.init({}), (error: Error & { code?: number; details?: string }) => {
        assert.deepEqual([error.code, error.details], [Status.INVALID_ARGUMENT, refusal]);
        return true;
      });
      assert.equal(world.attached.length, 1, "a refusal is not tried again");
    });
  });

  test("a socket that is no path is refused before anything is tried", async () => {
    await withPlugin({}, async ({ host, world }) => {
      await assert.rejects(
        host.init({ socket: "run/x.sock" }),
        grpcError(Status.INVALID_ARGUMENT, /absolute path/),
      );
      assert.deepEqual(world.attached, []);
    });
  });

  test("without a daemon Init says how to start it", async () => {
    await withPlugin({ daemonless: true }, async ({ host, socket }) => {
      await assert.rejects(
        host.init({}),
        grpcError(
          Status.UNAVAILABLE,
          new RegExp(`no fleetingd daemon listens on ${socket}.*systemctl start fleetingd`),
        ),
      );
    });
  });

  test("a daemon that starts a moment later is waited for", async () => {
    await withPlugin({ daemonless: true }, async ({ host, startDaemon }) => {
      const [info] = await Promise.all([host.init({}), host.logged(/waiting for it/).then(startDaemon)]);
      assert.equal(info.id, "stand-in/1");
    });
  });

  test("what is not a socket is said to be none", async () => {
    const path = join(directory, "file");
    await writeFile(path, "");
    await withPlugin({ daemonless: true }, async ({ host }) => {
      await assert.rejects(
        host.init({ socket: `${path}/daemon.sock` }),
        grpcError(Status.INVALID_ARGUMENT, /is not a socket \(ENOTDIR\)/),
      );
    });
  });

  test("a socket that may not be used names the group that may", async () => {
    const closed = join(directory, "closed");
    await mkdir(closed);
    // Root without the right to pass over permissions, as any other user has none.
    const through = ["setpriv", "--bounding-set", "-dac_override,-dac_read_search"];
    await withPlugin({ host: { through } }, async ({ host, socket }) => {
      await chown(socket, 1, 1);
      await chmod(socket, 0o660);
      const denied = grpcError(
        Status.PERMISSION_DENIED,
        /open to the group daemon: run "usermod -aG daemon root"/,
      );
      await assert.rejects(host.init({}), denied);

      await chown(closed, 1, 1);
      await chmod(closed, 0o750);
      await assert.rejects(host.init({ socket: join(closed, "inside", "daemon.sock") }), denied);
    });
  });

  test("instances appear with their states, and a failed one with its reason in the log", async () => {
    await withPlugin({ world: { autoReady: false } }, async ({ host, world }) => {
      await host.init({});
      assert.deepEqual(await host.update(), []);
      assert.equal(await host.increase(4), 4);
      const [creating, running, deleting, failed] = [...world.instances.values()];
      assert.ok(creating && running && deleting && failed);
      running.state = InstanceState.INSTANCE_RUNNING;
      deleting.state = InstanceState.INSTANCE_DELETING;
      failed.state = InstanceState.INSTANCE_TIMEOUT;
      failed.lastError = "no SSH login within 300 s";
      assert.deepEqual(await host.update(), [
        { instance: creating.id, state: State.CREATING },
        { instance: running.id, state: State.RUNNING },
        { instance: deleting.id, state: State.DELETING },
        { instance: failed.id, state: State.TIMEOUT },
      ]);
      const entry = await host.logged(/an instance did not start/);
      assert.deepEqual([entry["instance"], entry["reason"]], [failed.id, failed.lastError]);
    });
  });

  test("Increase answers the number accepted and logs why it is not more", async () => {
    await withPlugin({ world: { capacity: 3 } }, async ({ host, world }) => {
      await host.init({});
      assert.equal(await host.increase(0), 0);
      assert.ok(!world.calls.includes("increase"), "nothing is nothing to the daemon");
      assert.equal(await host.increase(2), 2);
      assert.equal(await host.increase(5), 1, "a part of it");
      const entry = await host.logged(/fewer instances/);
      assert.deepEqual([entry["n"], entry["accepted"]], [5, 1]);
      assert.match(String(entry["reason"]), /at most 3/);
      assert.equal(await host.increase(1), 0, "none at all is no error");
    });
  });

  test("Decrease can be repeated, and what is unknown is done", async () => {
    await withPlugin({}, async ({ host }) => {
      await host.init({});
      await host.increase(1);
      const [instance] = await host.updateUntil(([first]) => first?.state === State.RUNNING);
      const id = instance?.instance ?? "";
      assert.deepEqual(await host.decrease(), []);
      assert.deepEqual(await host.decrease(id, "no-such-instance"), [id, "no-such-instance"]);
      assert.deepEqual(await host.decrease(id), [id]);
      await host.updateUntil((states) => states.length === 0);
      assert.deepEqual(await host.decrease(id), [id]);
    });
  });

  test("ConnectInfo and Heartbeat know the instance, and NOT_FOUND if they do not", async () => {
    await withPlugin({}, async ({ host }) => {
      await host.init(
        {},
        { connectorConfig: { ...NO_CONNECTOR, username: "ubuntu", keepalive: NANOSECONDS } },
      );
      await host.increase(1);
      const [instance] = await host.updateUntil(([first]) => first?.state === State.RUNNING);
      const id = instance?.instance ?? "";
      const { connector, InternalAddr, ExternalAddr, expires } = await host.connectInfo(id);
      assert.deepEqual(connector, {
        ...NO_CONNECTOR,
        os: "linux",
        arch: "amd64",
        protocol: "ssh",
        username: "ubuntu",
        key: Buffer.from("a key"),
        keepalive: NANOSECONDS,
        timeout: 60n * NANOSECONDS,
        protocolPort: 22n,
      });
      assert.deepEqual([InternalAddr, ExternalAddr, expires], ["172.16.120.2", "192.0.2.1", 0n]);
      await host.heartbeat(id);
      await assert.rejects(host.connectInfo("nobody"), grpcError(Status.NOT_FOUND, /no instance nobody/));
      await assert.rejects(host.heartbeat("nobody"), grpcError(Status.NOT_FOUND, /no instance nobody/));
    });
  });

  test("before Init every call says so", async () => {
    await withPlugin({}, async ({ host }) => {
      const early = grpcError(Status.FAILED_PRECONDITION, /Init comes first/);
      await assert.rejects(host.update(), early);
      await assert.rejects(host.increase(1), early);
      await assert.rejects(host.connectInfo("x"), early);
    });
  });

  test("Shutdown and the plugin's end delete nothing, and give the group up", async () => {
    await withPlugin({}, async ({ host, world, daemon }) => {
      await host.init({});
      await host.increase(1);
      assert.deepEqual([...daemon().groups], ["stand-in/1"]);
      await new Promise((resolve, reject) =>
        host.group.shutdown({}, (error, reply) => (error ? reject(error) : resolve(reply))),
      );
      await host.shutdown();
      await host.end();
      assert.equal(world.instances.size, 1);
      assert.ok(!world.calls.includes("decrease"));
      await waitFor(async () => (daemon().groups.size === 0 ? true : undefined), {
        timeoutMs: 60_000,
        intervalMs: 10,
        what: "the group to be given up",
      });
    });
  });

  test("a restarted daemon gets the same group and configuration; nothing is lost in between", async () => {
    await withPlugin({}, async ({ host, world, daemon, stopDaemon, startDaemon }) => {
      const config = { pool: "big" };
      await host.init(config);
      await host.increase(2);
      const before = await host.updateUntil((states) => states.every(({ state }) => state === State.RUNNING));

      await stopDaemon();
      const away = grpcError(
        Status.UNAVAILABLE,
        /fleetingd daemon.*(went away|lost)|lost the fleetingd daemon/,
      );
      await assert.rejects(host.update(), away);
      await assert.rejects(host.increase(1), away);
      await assert.rejects(host.decrease("stand-in-x"), away);
      await host.logged(/tries to reconnect: no fleetingd daemon listens/);
      assert.equal(world.instances.size, 2, "what was refused has not happened");

      await startDaemon();
      assert.deepEqual(await host.updateUntilAvailable(), before);
      assert.deepEqual(
        world.attached.map(({ pluginConfig, group }) => [pluginConfig, group]),
        [
          [JSON.stringify(config), ""],
          [JSON.stringify(config), "stand-in/1"],
        ],
      );
      assert.deepEqual([...daemon().groups], ["stand-in/1"]);
      assert.equal(await host.increase(1), 1);
    });
  });

  test("ConnectInfo outlasts a restart: the runner asks once and gives the instance up on an error", async () => {
    await withPlugin({}, async ({ host, stopDaemon, startDaemon }) => {
      await host.init({});
      await host.increase(1);
      const [instance] = await host.updateUntil(([first]) => first?.state === State.RUNNING);
      await stopDaemon();
      const [info] = await Promise.all([
        host.connectInfo(instance?.instance ?? ""),
        sleep(300).then(startDaemon),
      ]);
      assert.equal(info.InternalAddr, "172.16.120.2");
    });
  });

  test("a daemon that comes back and refuses is asked again until it agrees", async () => {
    await withPlugin({}, async ({ host, world, stopDaemon, startDaemon }) => {
      await host.init({});
      await stopDaemon();
      world.refusal = "the pool is gone from the configuration";
      await startDaemon();
      await host.logged(/tries to reconnect: the pool is gone/);
      await assert.rejects(
        host.update(),
        grpcError(Status.UNAVAILABLE, /the pool is gone from the configuration/),
      );
      world.refusal = undefined;
      assert.deepEqual(await host.updateUntilAvailable(), []);
    });
  });

  test("a daemon that hangs does not hang the runner", async () => {
    await withPlugin({ world: { hanging: "listInstances" } }, async ({ host }) => {
      await host.init({});
      await assert.rejects(host.update(), grpcError(Status.DEADLINE_EXCEEDED, /did not answer in time/));
    });
  });

  test("two plugins have groups of their own and do not see each other's instances", async () => {
    await withPlugin({}, async ({ host, socket }) => {
      await host.init({});
      const other = await Host.start({ env: { FLEETINGD_SOCKET: socket, TMPDIR: directory } });
      try {
        assert.equal((await other.init({})).id, "stand-in/2");
        await host.increase(1);
        assert.deepEqual(await other.update(), []);
        assert.equal((await host.update()).length, 1);
      } finally {
        await other.close();
      }
    });
  });
});
