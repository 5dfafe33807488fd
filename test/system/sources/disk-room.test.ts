/** Whether an idle machine's disk has room, asked over a real SSH connection, on a real full file system. */
import assert from "node:assert/strict";
import { mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { run } from "../../../src/host/run.ts";
import { fullFromInside } from "../../../src/sources/local/disk-room.ts";
import type { ConnectInfo } from "../../../src/sources/source.ts";
import { needsNamespace } from "../../helpers/namespace.ts";
import { createSshMachines } from "../../helpers/stand-in-ssh.ts";
import { failOnLeaks } from "../../helpers/suite.ts";

failOnLeaks();

const DISK_MIB = 4;
const MIB = 1024 ** 2;

describe("an idle machine", { skip: needsNamespace() }, () => {
  const machines = createSshMachines();
  const originalHome = process.env["HOME"];
  let home: string;
  let connectInfo: ConnectInfo;

  before(async () => {
    home = await mkdtemp(join(tmpdir(), "disk-room-"));
    await run("mount", ["-t", "tmpfs", "-o", `size=${DISK_MIB}m`, "disk-room", home]);
    // The machine runs its commands here.
    process.env["HOME"] = home;
    const made = await machines.create("machine");
    connectInfo = {
      os: "linux",
      arch: "amd64",
      protocol: "ssh",
      username: made.username ?? "",
      privateKey: Buffer.from(made.key ?? []).toString(),
      address: made.internalAddress ?? "",
      port: made.port ?? 0,
    };
  });
  after(async () => {
    process.env["HOME"] = originalHome;
    await machines.destroy("machine");
    await run("umount", [home]);
    await rm(home, { recursive: true });
  });

  const ask = (): Promise<string | undefined> => fullFromInside(connectInfo, AbortSignal.timeout(60_000));

  test("has room, and nothing of the question stays behind", async () => {
    assert.equal(await ask(), undefined);
    assert.deepEqual(await readdir(home), []);
  });

  test("has none for the job's user", async () => {
    await writeFile(join(home, "filling"), Buffer.alloc(DISK_MIB * MIB - 4096));
    assert.equal(await ask(), "its disk is full");
    assert.deepEqual(await readdir(home), ["filling"]);
  });

  test("that has trouble of another kind is not called full", async () => {
    process.env["HOME"] = "/nowhere";
    assert.equal(await ask(), undefined);
  });
});
