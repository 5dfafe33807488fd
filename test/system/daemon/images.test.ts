/** The daemon's own images: what it lists, what it removes, and what makes it keep its hands off. No VM is started. */
import assert from "node:assert/strict";
import { mkdir, mkdtemp, readdir, rm, utimes, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, afterEach, before, beforeEach, describe, test } from "node:test";
import { execa } from "execa";
import type { z } from "zod";
import { gcReportSchema, imageListSchema } from "../../../src/api/images.ts";
import { withLock } from "../../../src/host/lock.ts";
import { newRecord } from "../../../src/pool/instance.ts";
import { parseExactly } from "../../helpers/command-line.ts";
import { FLEETINGD, poolToml, startTestDaemon, type TestDaemon } from "../../helpers/daemon.ts";
import { needsNamespace } from "../../helpers/namespace.ts";
import { openNeighbour, type Place } from "../../helpers/netns.ts";
import { failOnLeaks } from "../../helpers/suite.ts";

failOnLeaks();

const DAY_MS = 86_400_000;
const MINUTE_MS = 60_000;

describe("images", { skip: needsNamespace() }, () => {
  let disks: string;
  let daemon: TestDaemon;
  let outside: Place;

  before(async () => {
    outside = await openNeighbour("outside", "egress0", ["203.0.113.2", "203.0.113.1"]);
  });
  after(() => outside.close());

  beforeEach(async () => {
    disks = await mkdtemp(join(tmpdir(), "images-"));
    daemon = await startTestDaemon({ pools: poolToml("ci", { vm_disk_directory: disks }) });
  });
  afterEach(async () => {
    await daemon.stop();
    await rm(disks, { recursive: true });
  });

  async function golden(name: string, ageMs: number): Promise<void> {
    await describeImage(join("golden", name), {
      name,
      inputs: name,
      baseName: "base-1",
      initrd: false,
      rootDevice: "/dev/vda",
      kernelArguments: [],
      createdAt: new Date(Date.now() - ageMs).toISOString(),
    });
    await writeFile(join(disks, "golden", name, "disk.raw"), Buffer.alloc(256 * 1024, 1));
  }

  function base(name: string, ageMs: number): Promise<void> {
    return describeImage(join("base", name), {
      name,
      disk: "disk.raw",
      diskFormat: "raw",
      kernel: "kernel",
      rootDevice: "/dev/vda",
      kernelArguments: [],
      createdAt: new Date(Date.now() - ageMs).toISOString(),
    });
  }

  async function describeImage(path: string, description: object): Promise<void> {
    await mkdir(join(disks, path), { recursive: true });
    await writeFile(join(disks, path, "image.json"), JSON.stringify(description));
  }

  async function leftover(path: string, ageMs: number): Promise<void> {
    await mkdir(join(disks, path), { recursive: true });
    const time = new Date(Date.now() - ageMs);
    await utimes(join(disks, path), time, time);
  }

  /** A record of a VM that an earlier daemon made of the image; this one has not read it. */
  async function vm(goldenImage: string): Promise<string> {
    const record = newRecord("ci", undefined, Date.now());
    const cloneDirectory = join(disks, "clones", record.id);
    record.data = { subnet: "172.16.120.0/24", slot: 3, cloneDirectory, goldenImage };
    const directory = join(daemon.directory, "vms", record.id);
    await mkdir(directory, { recursive: true });
    await mkdir(cloneDirectory, { recursive: true });
    await writeFile(join(directory, "record.json"), JSON.stringify(record));
    return directory;
  }

  async function ask<T extends z.ZodType>(
    schema: T,
    ...args: string[]
  ): Promise<{ answer: z.output<T>; stderr: string; exitCode: number }> {
    const command = ["--socket", daemon.socket, ...args, "--json"];
    const { stdout, stderr, exitCode } = await execa(FLEETINGD, command, {
      reject: false,
      timeout: MINUTE_MS,
    });
    return { answer: parseExactly(schema, stdout), stderr, exitCode: exitCode ?? -1 };
  }

  const names = async (folder: string): Promise<string[]> => (await readdir(join(disks, folder))).toSorted();

  test("are listed with age, size and users", async () => {
    await golden("0123456789abcdef", DAY_MS);
    await base("base-1", 2 * DAY_MS);
    await vm("0123456789abcdef");
    const { images } = (await ask(imageListSchema, "images")).answer;
    const [first, second] = images;
    assert.deepEqual(
      images.map(({ kind, name, vms, current, pools }) => ({ kind, name, vms, current, pools })),
      [
        { kind: "golden", name: "0123456789abcdef", vms: 1, current: false, pools: [] },
        { kind: "base", name: "base-1", vms: 0, current: false, pools: [] },
      ],
    );
    assert.equal(first?.base, "base-1");
    assert.equal(first?.directory, disks);
    assert.ok((first?.bytes ?? 0) >= 256 * 1024);
    assert.ok(Math.abs((second?.ageSeconds ?? 0) - 2 * 86_400) < 120);
  });

  test("that nobody uses are removed; a dry run removes nothing", async () => {
    await golden("used", DAY_MS);
    await golden("unused", DAY_MS);
    await golden("young", MINUTE_MS);
    await leftover("golden/.unused.0123456789ab.tmp", DAY_MS);
    await leftover("base/.base-9.0123456789ab.tmp", MINUTE_MS);
    await base("base-1", DAY_MS);
    await vm("used");
    const before = await names("golden");
    const wanted = ["golden", "leftover"];
    const dry = await ask(gcReportSchema, "gc", "--dry-run");
    assert.deepEqual(
      dry.answer.directories[0]?.removed.map(({ kind }) => kind),
      wanted,
    );
    assert.deepEqual(await names("golden"), before);

    const wet = await ask(gcReportSchema, "gc");
    assert.equal(wet.exitCode, 0, wet.stderr);
    assert.deepEqual(
      wet.answer.directories[0]?.removed.map(({ kind }) => kind),
      wanted,
    );
    assert.deepEqual(await names("golden"), ["used", "young"]);
    // The pool has no golden image yet, so which base image it needs is not known.
    assert.deepEqual(await names("base"), [".base-9.0123456789ab.tmp", "base-1"]);
    assert.deepEqual((await ask(gcReportSchema, "gc")).answer.directories[0]?.removed, []);
  });

  test("stay while a record cannot be read", async () => {
    await golden("unused", DAY_MS);
    const directory = await vm("unused");
    await writeFile(join(directory, "record.json"), "{");
    const { stderr, exitCode } = await ask(gcReportSchema, "gc");
    assert.match(stderr, /nothing is removed from .*a record cannot be read: .*record\.json: it is not JSON/);
    assert.equal(exitCode, 1);
    assert.deepEqual(await names("golden"), ["unused"]);
  });

  test("stay while there are clones that no record names", async () => {
    await golden("unused", DAY_MS);
    await mkdir(join(disks, "clones", "fl-stranger"), { recursive: true });
    const { stderr } = await ask(gcReportSchema, "gc");
    assert.match(stderr, /clones are here that belong to no record.*fl-stranger/);
    assert.deepEqual(await names("golden"), ["unused"]);
  });

  test("stay while another process works on them", async () => {
    await golden("unused", DAY_MS);
    await withLock(join(disks, ".images.lock"), { timeoutMs: MINUTE_MS }, async () => {
      const { stderr, exitCode } = await ask(gcReportSchema, "gc");
      assert.match(stderr, /another process, or a prebuild, works on this directory's images/);
      assert.equal(exitCode, 1);
    });
    assert.deepEqual(await names("golden"), ["unused"]);
  });

  test("of a description that cannot be read stay, and so do all others", async () => {
    await golden("unused", DAY_MS);
    await mkdir(join(disks, "golden", "broken"));
    await writeFile(join(disks, "golden", "broken", "image.json"), "{");
    const command = ["--socket", daemon.socket, "gc"];
    const { stderr, exitCode } = await execa(FLEETINGD, command, { reject: false, timeout: MINUTE_MS });
    assert.match(stderr, /broken\/image\.json does not describe a golden image. Remove its folder/);
    assert.equal(exitCode, 1);
    assert.deepEqual(await names("golden"), ["broken", "unused"]);
  });
});
