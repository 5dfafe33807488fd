import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { lockState } from "../../../src/daemon/host-lock.ts";
import { identifyProcess } from "../../../src/host/process.ts";

describe("the lock of a state directory", () => {
  let directory: string;
  before(async () => {
    directory = await mkdtemp(join(tmpdir(), "host-lock-"));
  });
  after(() => rm(directory, { recursive: true }));

  test("is held by one, and free again afterwards", async () => {
    const unlock = await lockState(directory);
    await assert.rejects(
      lockState(directory),
      new RegExp(`pid ${process.pid}\\) works on the state directory`),
    );
    await unlock();
    await (await lockState(directory))();
    assert.deepEqual(await readdir(directory), []);
  });

  test("ends with the process that holds it", async () => {
    const holder = spawn("sleep", ["60"]);
    await once(holder, "spawn");
    const identity = await identifyProcess(holder.pid ?? 0);
    await writeFile(join(directory, "daemon.lock"), JSON.stringify(identity));
    await assert.rejects(lockState(directory), /works on the state directory/);
    holder.kill("SIGKILL");
    await once(holder, "exit");
    await (await lockState(directory))();
  });

  for (const content of [
    "",
    "\0\0\0\0",
    "[]",
    '{"pid":1}',
    JSON.stringify({ pid: process.pid, startTicks: 1 }),
  ]) {
    test(`a lock that says ${JSON.stringify(content)} is nobody's`, async () => {
      await writeFile(join(directory, "daemon.lock"), content);
      await (await lockState(directory))();
    });
  }
});
