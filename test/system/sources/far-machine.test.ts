/** A machine whose answer is a second away: the first packet of each connection to it is lost, and repeated by the kernel. */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { run } from "../../../src/host/run.ts";
import { FAR, type LoginTarget, waitForLogin } from "../../../src/host/ssh.ts";
import { needsNamespace } from "../../helpers/namespace.ts";
import { createSshMachines } from "../../helpers/stand-in-ssh.ts";
import { failOnLeaks } from "../../helpers/suite.ts";

failOnLeaks();

const TIMEOUT_MS = 60_000;

describe("a machine that is far away", { skip: needsNamespace() }, () => {
  const machines = createSshMachines();
  let target: LoginTarget;

  before(async () => {
    const { port = 0, username = "", key = new Uint8Array() } = await machines.create("machine");
    const privateKey = Buffer.from(key).toString();
    target = { address: "127.0.0.1", port, username, privateKey, hostKey: undefined };
    const rules = `table inet far {
      set seen { type inet_service; flags dynamic; size 65535; }
      chain input {
        type filter hook input priority 0;
        tcp dport ${port} tcp flags & (syn | ack) == syn tcp sport @seen accept
        tcp dport ${port} tcp flags & (syn | ack) == syn add @seen { tcp sport } drop
      }
    }`;
    await run("nft", ["-f", "-"], { input: rules });
  });

  after(async () => {
    await run("nft", ["delete", "table", "inet", "far"]);
    await machines.destroy("machine");
  });

  test("is logged in to", async () => {
    const signal = new AbortController().signal;
    const login = await waitForLogin(target, { timeoutMs: TIMEOUT_MS, signal, pace: FAR });
    try {
      assert.equal((await login.exec("echo here", TIMEOUT_MS)).stdout, "here");
    } finally {
      login.close();
    }
  });

  test("control: with the pace for machines of this host it never is", async () => {
    const signal = new AbortController().signal;
    await assert.rejects(waitForLogin(target, { timeoutMs: 2_000, signal }), { code: "TIMEOUT" });
  });

  test("is waited for no longer than it is wanted", async () => {
    const unwanted = new AbortController();
    const waiting = waitForLogin(target, { timeoutMs: TIMEOUT_MS, signal: unwanted.signal, pace: FAR });
    unwanted.abort();
    await assert.rejects(waiting, { code: "CANCELLED" });
  });
});
