import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { mkdtemp, readdir, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { after, describe, test } from "node:test";
import { credentials, status as Status } from "@grpc/grpc-js";
import { HealthCheckResponse_ServingStatus, HealthClient } from "../../../src/gen/health.ts";
import { callUnary } from "../../../src/host/grpc.ts";
import { sleep, waitFor } from "../../../src/host/wait.ts";
import { createSelfSignedCertificate } from "../../../src/plugin/certificate.ts";
import { failOnLeaks } from "../../helpers/suite.ts";
import { grpcError, HOST_ENV, Host, PLUGIN } from "./host.ts";

failOnLeaks();

describe("the plugin's handshake and its end", async () => {
  const directory = await mkdtemp(join(tmpdir(), "plugin-lifetime-"));
  after(() => rm(directory, { recursive: true }));
  const start = (options: { env?: Record<string, string>; through?: string[] } = {}): Promise<Host> =>
    Host.start({ ...options, env: { TMPDIR: directory, ...options.env } });

  test("the handshake line is what go-plugin reads, and its socket is nobody else's", async () => {
    const host = await start();
    try {
      await host.connected();
      const [core, app, network, path = "", protocol, certificate, ...rest] = host.handshake;
      assert.deepEqual([core, app, network, protocol, certificate, rest], ["1", "0", "unix", "grpc", "", []]);
      assert.equal((await stat(path)).mode & 0o777, 0o600);
      assert.equal((await stat(dirname(path))).mode & 0o777, 0o700);
    } finally {
      await host.close();
    }
    assert.deepEqual(host.stdout, [], "nothing but the handshake is on standard output");
    assert.deepEqual(await readdir(directory), [], "the socket's folder is gone");
  });

  test("PLUGIN_UNIX_SOCKET_DIR and _GROUP say where the socket is and whose", async () => {
    const own = await mkdtemp(join(directory, "own-"));
    for (const [group, id] of [
      ["daemon", 1],
      ["1", 1],
    ] as const) {
      const host = await start({ env: { PLUGIN_UNIX_SOCKET_DIR: own, PLUGIN_UNIX_SOCKET_GROUP: group } });
      try {
        await host.connected();
        assert.equal(dirname(host.socketPath), own);
        const { mode, gid } = await stat(host.socketPath);
        assert.deepEqual([mode & 0o777, gid], [0o660, id]);
      } finally {
        await host.close();
      }
      assert.deepEqual(await readdir(own), [], "the socket is gone, the host's folder stays");
    }
    await rm(own, { recursive: true });
  });

  test("a group without a folder may get through to the socket", async () => {
    const host = await start({ env: { PLUGIN_UNIX_SOCKET_GROUP: "daemon" } });
    try {
      await host.connected();
      const { mode, gid } = await stat(dirname(host.socketPath));
      assert.deepEqual([mode & 0o777, gid], [0o710, 1]);
    } finally {
      await host.close();
    }
  });

  test("health is reported for the service that go-plugin asks for", async () => {
    const host = await start();
    try {
      const check = (service: string) => callUnary(host.health.check.bind(host.health), { service }, 5_000);
      assert.equal((await check("plugin")).status, HealthCheckResponse_ServingStatus.SERVING);
      await assert.rejects(check("other"), grpcError(Status.NOT_FOUND, /no service "other"/));
    } finally {
      await host.close();
    }
  });

  test("with PLUGIN_CLIENT_CERT both sides prove themselves", async () => {
    const own = await createSelfSignedCertificate();
    const host = await Host.start({
      env: { TMPDIR: directory, PLUGIN_CLIENT_CERT: own.certificatePem },
      credentials: ([, , , , , certificate]) =>
        credentials.createSsl(
          pemOf(certificate),
          Buffer.from(own.privateKeyPem),
          Buffer.from(own.certificatePem),
        ),
    });
    try {
      await host.connected();
      assert.doesNotMatch(host.handshake[5] ?? "", /=/, "Go reads unpadded base64 only");
      const target = `unix:${host.socketPath}`;
      const options = { "grpc.default_authority": "localhost" };
      for (const others of [credentials.createInsecure(), credentials.createSsl(pemOf(host.handshake[5]))]) {
        const stranger = new HealthClient(target, others, options);
        await assert.rejects(
          callUnary(stranger.check.bind(stranger), { service: "plugin" }, 60_000),
          grpcError(Status.UNAVAILABLE, /./),
        );
        stranger.close();
      }
      await host.connected();
    } finally {
      await host.close();
    }
  });

  test("Shutdown is answered, and then it ends within the host's 2 s", async () => {
    // Not a measure of speed: the host kills what takes longer. On a busy machine anything may, so one of a few has to do it.
    let quickestMs = Number.POSITIVE_INFINITY;
    for (let tries = 0; tries < 5 && quickestMs >= 2_000; tries++) {
      const host = await start();
      try {
        await host.connected();
        const startedAt = performance.now();
        await host.shutdown();
        assert.equal(await host.end(), 0);
        quickestMs = Math.min(quickestMs, performance.now() - startedAt);
      } finally {
        await host.close();
      }
    }
    assert.ok(quickestMs < 2_000, `${quickestMs} ms`);
    assert.deepEqual(await readdir(directory), []);
  });

  test("it ends when the broker stream does, though other connections stay", async () => {
    const host = await start();
    try {
      await host.connected();
      host.broker.cancel();
      assert.equal(await host.end(), 0);
    } finally {
      await host.close();
    }
    assert.deepEqual(await readdir(directory), []);
  });

  test("it ends when the host half-closes the broker stream", async () => {
    const host = await start();
    try {
      await host.connected();
      host.broker.end();
      assert.equal(await host.end(), 0);
    } finally {
      await host.close();
    }
  });

  test("signals to the process group do not end it while the host is connected", async () => {
    const host = await start();
    try {
      await host.connected();
      for (const signal of ["SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT"] as const) {
        assert.ok(host.child.kill(signal));
        await host.logged(new RegExp(`ignored ${signal}`));
      }
      await host.connected();
    } finally {
      await host.close();
    }
  });

  test("SIGTERM ends it when no host is connected, SIGINT never does", async () => {
    const { child, exited, socketPath } = await startWithoutHost();
    child.kill("SIGINT");
    await sleep(100);
    assert.ok(existsSync(socketPath));
    child.kill("SIGTERM");
    assert.equal(await exited, 0);
    assert.deepEqual(await readdir(directory), []);
  });

  test("a killed host leaves no plugin behind, and no socket", async () => {
    const { child, socketPath, pluginPid } = await startWithoutHost({ throughParent: true });
    assert.notEqual(pluginPid, child.pid);
    child.kill("SIGKILL");
    await gone(pluginPid);
    assert.ok(!existsSync(socketPath));
    assert.deepEqual(await readdir(directory), []);
  });

  /** Nobody connects to it; with `throughParent`, another process than this one is its parent. */
  async function startWithoutHost({ throughParent = false } = {}) {
    const command = throughParent ? ["/bin/sh", "-c", '"$0" & echo $!; wait', PLUGIN] : [PLUGIN];
    const child = spawn(command[0] ?? PLUGIN, command.slice(1), {
      env: { ...HOST_ENV, TMPDIR: directory },
      stdio: ["ignore", "pipe", "ignore"],
    });
    const exited = once(child, "exit").then(([code]) => code as number | null);
    let output = "";
    child.stdout.setEncoding("utf8").on("data", (text: string) => {
      output += text;
    });
    const socketPath = await waitFor(async () => /unix\|([^|]+)\|/.exec(output)?.[1], {
      timeoutMs: 60_000,
      intervalMs: 10,
      what: "the handshake line",
    });
    const pluginPid = Number(/^\d+$/m.exec(output)?.[0] ?? child.pid);
    return { child, exited, socketPath, pluginPid };
  }

  function pemOf(base64 = ""): Buffer {
    // OpenSSL wants the padding that the handshake leaves out.
    const padded = Buffer.from(base64, "base64").toString("base64");
    return Buffer.from(`-----BEGIN CERTIFICATE-----\n${padded}\n-----END CERTIFICATE-----\n`);
  }

  async function gone(pid: number): Promise<void> {
    await waitFor(async () => (existsSync(`/proc/${pid}`) ? undefined : true), {
      timeoutMs: 60_000,
      intervalMs: 20,
      what: `process ${pid} to end by itself`,
    });
  }
});
