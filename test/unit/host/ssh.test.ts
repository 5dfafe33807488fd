import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { waitForLogin } from "../../../src/host/ssh.ts";
import { createSshMachines } from "../../helpers/stand-in-ssh.ts";

const TIMEOUT_MS = 60_000;

describe("a login", () => {
  test("that is reset while its command runs says so, and ends nothing else", async () => {
    const directory = await mkdtemp(join(tmpdir(), "fleetingd-ssh-"));
    const machines = createSshMachines();
    const {
      internalAddress: address = "",
      port: sshPort = 0,
      username = "",
      key,
    } = await machines.create("m");
    // Between both, so that what the machine's kernel would do can be done: one that restarts knows of no connection.
    const connections: Socket[] = [];
    const way = createServer((near) => {
      const far = connect(sshPort, address);
      connections.push(near, far);
      for (const socket of [near, far]) socket.on("error", () => undefined);
      near.pipe(far).pipe(near);
    });
    way.listen(0, address);
    await once(way, "listening");
    try {
      const { port } = way.address() as AddressInfo;
      const target = { address, port, username, privateKey: String(key), hostKey: undefined };
      const signal = AbortSignal.timeout(TIMEOUT_MS);
      const login = await waitForLogin(target, { timeoutMs: TIMEOUT_MS, signal });
      // Until the folder is removed, below.
      const running = login.exec(`while test -d ${directory}; do sleep 0.1; done`, TIMEOUT_MS);
      const lost = assert.rejects(running, {
        code: "UNAVAILABLE",
        message: /was lost during .*: .*ECONNRESET/,
      });
      // What has been answered after it says that it runs.
      await login.exec("true", TIMEOUT_MS);
      for (const socket of connections) socket.resetAndDestroy();
      await lost;
      login.close();
    } finally {
      way.close();
      await machines.destroy("m");
      await rm(directory, { recursive: true });
    }
  });
});
