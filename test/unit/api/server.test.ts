import assert from "node:assert/strict";
import { mkdtemp, rename, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { exists } from "../../../src/host/files.ts";
import { isLeftOver } from "../../../src/host/leftover-socket.ts";

describe("the place of the daemon's socket", () => {
  let directory: string;
  const at = (name: string): string => join(directory, name);

  before(async () => {
    directory = await mkdtemp(join(tmpdir(), "fleetingd-api-"));
  });
  after(() => rm(directory, { recursive: true, force: true }));

  test("is free where there is nothing", async () => {
    assert.equal(await isLeftOver(at("none")), false);
  });

  test("is refused while another daemon listens there, which is left alone", async () => {
    const listener = createServer().listen(at("live"));
    await new Promise((resolve) => listener.once("listening", resolve));
    await assert.rejects(isLeftOver(at("live")), { code: "ALREADY_EXISTS", message: /another daemon/ });
    assert.equal(await exists(at("live")), true);
    await rename(at("live"), at("dead"));
    await new Promise((resolve) => listener.close(resolve));
    assert.equal(await isLeftOver(at("dead")), true);
  });

  test("is refused where there is a file", async () => {
    await writeFile(at("file"), "");
    await assert.rejects(isLeftOver(at("file")), { code: "ALREADY_EXISTS", message: /not a socket/ });
  });
});
