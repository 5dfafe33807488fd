/** How building a base image from packages fails. That it works is shown by the VMs that are made of it. */
import assert from "node:assert/strict";
import { mkdir, mkdtemp, readdir, rm } from "node:fs/promises";
import { createServer, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, afterEach, before, beforeEach, describe, test } from "node:test";
import { FleetingdError } from "../../../src/errors.ts";
import { run } from "../../../src/host/run.ts";
import { buildDebianPackages } from "../../../src/images/debian-packages.ts";
import { needsNamespace, needsPrograms } from "../../helpers/namespace.ts";
import { failOnLeaks } from "../../helpers/suite.ts";

failOnLeaks();

const skip = needsNamespace() || (await needsPrograms("mmdebstrap", "mke2fs", "busybox"));

describe("buildDebianPackages", { skip }, () => {
  let diskDirectory = "";
  let silentMirror: Server;
  const connections = new Set<Socket>();

  before(async () => {
    await run("ip", ["link", "set", "lo", "up"]);
    silentMirror = createServer((socket) => {
      connections.add(socket);
      socket.on("error", () => connections.delete(socket));
    });
    await new Promise<void>((resolve) => silentMirror.listen(8053, "127.0.0.1", resolve));
  });

  after(() => {
    for (const socket of connections) socket.destroy();
    silentMirror.close();
  });

  beforeEach(async () => {
    diskDirectory = await mkdtemp(join(tmpdir(), "fleetingd-base-"));
  });

  afterEach(async () => {
    await rm(diskDirectory, { recursive: true });
  });

  test("an unreachable mirror is said with mmdebstrap's own last lines, and nothing is left", async () => {
    const error = await buildDebianPackages({
      diskDirectory,
      suite: "bookworm",
      mirrors: ["http://127.0.0.1:1/debian"],
    }).catch((thrown: unknown) => thrown);
    assert.ok(error instanceof FleetingdError);
    assert.equal(error.code, "UNAVAILABLE");
    assert.match(error.message, /127\.0\.0\.1:1/);
    assert.match(error.hint ?? "", /mirror/);
    assert.deepEqual(await readdir(join(diskDirectory, "base")), []);
  });

  test("an abort ends the build and leaves nothing", async () => {
    const steps: string[] = [];
    const abort = new AbortController();
    const build = buildDebianPackages({
      diskDirectory,
      suite: "bookworm",
      mirrors: ["http://127.0.0.1:8053/debian"],
      signal: abort.signal,
      onProgress: ({ step }) => {
        steps.push(step);
        abort.abort();
      },
    });
    await assert.rejects(build, { code: "CANCELLED" });
    assert.deepEqual(steps, ["reading package lists"]);
    assert.deepEqual(await readdir(join(diskDirectory, "base")), []);
  });

  test("a full disk is said to be full", async () => {
    const small = join(diskDirectory, "small");
    await mkdir(small);
    await run("mount", ["-t", "tmpfs", "-o", "size=64k", "tmpfs", small]);
    try {
      const mirrors = ["http://127.0.0.1:1/debian"];
      await assert.rejects(buildDebianPackages({ diskDirectory: small, suite: "bookworm", mirrors }), {
        code: "EXHAUSTED",
      });
      assert.deepEqual(await readdir(join(small, "base")), []);
    } finally {
      await run("umount", [small]);
    }
  });

  test("a release that can be none is refused before anything is done", async () => {
    await assert.rejects(buildDebianPackages({ diskDirectory, suite: "--help" }), {
      code: "INVALID_ARGUMENT",
    });
    assert.deepEqual(await readdir(diskDirectory), []);
  });
});
