/** Transactions through the `nft` that stays: whole or not at all, errors told, and another one when it is gone. */
import assert from "node:assert/strict";
import { chmod, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, afterEach, before, describe, test } from "node:test";
import { findProgram } from "../../../src/host/files.ts";
import { listProcesses } from "../../../src/host/process-list.ts";
import { run } from "../../../src/host/run.ts";
import { createNftSession } from "../../../src/network/nft-session.ts";
import { needsNamespace } from "../../helpers/namespace.ts";
import { failOnLeaks } from "../../helpers/suite.ts";

const element = (name: string, set = "vms_ci"): string => `element inet fleetingd ${set} { "${name}" }\n`;

failOnLeaks();

describe("nft session", { skip: needsNamespace() }, () => {
  const session = createNftSession();
  const path = process.env["PATH"] ?? "";
  let folder: string;

  const elements = async (): Promise<string[]> =>
    (await run("nft", ["list", "set", "inet", "fleetingd", "vms_ci"])).stdout.match(/fltap\w+/g)?.sort() ??
    [];
  const sessions = async (): Promise<number[]> =>
    (await listProcesses())
      .filter(({ arguments: argv }) => argv.join(" ").endsWith("nft -i"))
      .map(({ identity }) => identity.pid);
  /** Puts a script in the place of `nft` for the next session. */
  const replaceNft = async (script: string): Promise<void> => {
    await session.close();
    await writeFile(join(folder, "nft"), `#!/bin/sh\n${script}\n`);
    await chmod(join(folder, "nft"), 0o755);
    process.env["PATH"] = `${folder}:${path}`;
  };

  before(async () => {
    folder = await mkdtemp(join(tmpdir(), "nft-session-"));
    await run("nft", ["add table inet fleetingd { set vms_ci { type ifname; }; }"]);
  });

  afterEach(async () => {
    process.env["PATH"] = path;
    await session.close();
    await run("nft", ["flush set inet fleetingd vms_ci"]);
  });

  after(async () => {
    assert.deepEqual(await sessions(), []);
    await run("nft", ["delete table inet fleetingd"]);
    await rm(folder, { recursive: true });
  });

  test("one program for many transactions", async () => {
    await session.apply(`add ${element("fltap00000001")}add ${element("fltap00000002")}`);
    const [pid, ...more] = await sessions();
    assert.deepEqual(more, []);
    await session.apply(`delete ${element("fltap00000001")}add ${element("fltap00000003")}`);
    assert.deepEqual(await elements(), ["fltap00000002", "fltap00000003"]);
    assert.deepEqual(await sessions(), [pid]);
  });

  test("a transaction that fails changes nothing, and the next one works", async () => {
    for (const bad of [`add ${element("fltap00000009", "nosuch")}`, `delete ${element("fltap00000009")}`]) {
      await assert.rejects(session.apply(`add ${element("fltap00000001")}${bad}`), {
        code: "COMMAND_FAILED",
        message: /nft refused a change:\nError: .*No such file or directory/,
      });
      assert.deepEqual(await elements(), []);
    }
    await session.apply(`add ${element("fltap00000001")}`);
    assert.deepEqual(await elements(), ["fltap00000001"]);
  });

  test("a session that was killed is replaced", async () => {
    await session.apply(`add ${element("fltap00000001")}`);
    const [pid] = await sessions();
    process.kill(pid ?? assert.fail("no session"), "SIGKILL");
    await session.apply(`add ${element("fltap00000002")}`);
    await session.apply(`add ${element("fltap00000003")}`);
    assert.deepEqual(await elements(), ["fltap00000001", "fltap00000002", "fltap00000003"]);
  });

  test("where nft has no interactive mode, or ends in the middle, `nft -f -` does it", async () => {
    const real = await findProgram("nft");
    for (const ending of [
      "exit 1",
      "read line; exit 0",
      'read line; echo "Error: out of order" >&2; exit 1',
    ]) {
      await replaceNft(`[ "$1" = -i ] || exec ${real} "$@"\n${ending}`);
      await session.apply(`add ${element("fltap00000001")}`);
      assert.deepEqual(await elements(), ["fltap00000001"], ending);
    }
  });

  test("what is not on single elements never gets into the session", async () => {
    const injected = `add ${element('x" }; flush ruleset; add element inet fleetingd vms_ci { "y')}`;
    await assert.rejects(session.apply(`${injected}nonsense\n`), {
      code: "COMMAND_FAILED",
      message: /nft -f -/,
    });
    await session.apply("add table inet fleetingd\n");
    assert.deepEqual(await sessions(), []);
  });

  test("a session that hangs is given up after a time, and ended", async () => {
    await replaceNft("exec sleep 1000");
    await assert.rejects(session.apply(`add ${element("fltap00000001")}`), { code: "TIMEOUT" });
    process.env["PATH"] = path;
    await session.apply(`add ${element("fltap00000002")}`);
    assert.deepEqual(await elements(), ["fltap00000002"]);
  });
});
