/** Images from one host to another that reaches no server: by an archive, with a real daemon on both ends. */
import assert from "node:assert/strict";
import { mkdir, readdir, readFile, rename, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { execa } from "execa";
import { listDirectory } from "../../../src/host/files.ts";
import { run } from "../../../src/host/run.ts";
import { FLEETINGD } from "../../helpers/daemon.ts";
import { needsNamespace } from "../../helpers/namespace.ts";
import { createStandInWorld, STAND_IN_POOL, type StandInWorld } from "../../helpers/stand-in-world.ts";
import { failOnLeaks } from "../../helpers/suite.ts";

failOnLeaks();

describe("an archive of images", { skip: needsNamespace() }, () => {
  let world: StandInWorld;
  let archive: string;
  let there: string;
  let exported: string[];

  before(async () => {
    world = await createStandInWorld();
    archive = join(world.folder, "images.tar.gz");
    there = join(world.diskDirectory, "..", "there");
    await mkdir(there);
  });
  after(() => world.remove());

  const image = (verb: string, path: string, directory: string) => {
    const config = join(world.folder, `${verb}.toml`);
    return writeFile(config, `[pools.ci]\nvm_disk_directory = "${directory}"\n`).then(() =>
      execa(FLEETINGD, ["--config", config, "image", verb, path], { reject: false }),
    );
  };

  test("is refused where there is nothing to export", async () => {
    const { exitCode, stderr } = await image("export", archive, there);
    assert.equal(exitCode, 1);
    assert.match(stderr, /there is no golden image in use in .*Run `fleetingd prebuild` first/s);
    assert.deepEqual(
      (await readdir(world.folder)).filter((name) => name.includes("tar")),
      [],
    );
  });

  test("has the image in use and its base image, with the sum of every file", async () => {
    const daemon = await world.start({ pool: { warm_instances: 1 }, ephemeral: true });
    await daemon.untilWarm(STAND_IN_POOL, 1);
    const { goldenImage } = (await daemon.status()).pools[0] ?? {};
    assert.equal(await daemon.stop(), true);
    const { exitCode, stdout, stderr } = await image("export", archive, world.diskDirectory);
    assert.equal(exitCode, 0, stderr);
    exported = stdout.split("\n");
    assert.equal(exported.length, 2);
    assert.equal(exported[1], goldenImage);
    // Holes of disks are none of it.
    assert.ok((await stat(archive)).size < 32 * 1024 ** 2);
    const { stdout: members } = await run("tar", ["--list", "--file", archive]);
    assert.match(members, /^manifest\.json\n/);
    assert.doesNotMatch(members, /overlay/);
  });

  test("gives another host's daemon its VMs, without what the image was made of", async () => {
    const { exitCode, stdout, stderr } = await image("import", archive, there);
    assert.equal(exitCode, 0, stderr);
    assert.deepEqual(stdout.split("\n"), exported);
    assert.equal((await image("import", archive, there)).exitCode, 0, "what is there already is no failure");
    const sources = ["disk.raw", "vmlinuz"].map((name) => join(world.folder, name));
    for (const path of sources) await rename(path, `${path}.away`);
    const daemon = await world.start({
      pool: { warm_instances: 1, vm_disk_directory: there },
      ephemeral: true,
    });
    await daemon.untilWarm(STAND_IN_POOL, 1);
    assert.equal((await daemon.status()).pools[0]?.goldenImage, exported[1]);
    assert.equal(await daemon.stop(), true);
    for (const path of sources) await rename(`${path}.away`, path);
  });

  test("leaves nothing of an image one of whose files is another, or of what is no archive", async () => {
    const other = join(world.diskDirectory, "..", "other");
    await mkdir(other);
    const unpacked = join(world.folder, "unpacked");
    await mkdir(unpacked);
    await run("tar", ["--extract", "--file", archive, "--directory", unpacked]);
    const kernel = join(unpacked, "golden", exported[1] ?? "", "kernel");
    await writeFile(kernel, `${await readFile(kernel, "latin1")}!`);
    const changed = join(world.folder, "changed.tar");
    const members = ["manifest.json", "base", "golden"];
    await run("tar", ["--create", "--sparse", "--file", changed, "--directory", unpacked, ...members]);
    const { exitCode, stderr } = await image("import", changed, other);
    assert.equal(exitCode, 1);
    assert.match(stderr, /kernel of \w+ in .*changed\.tar is not what was exported/);
    assert.deepEqual(await listDirectory(join(other, "golden")), []);

    const garbage = join(world.folder, "garbage.tar.gz");
    await writeFile(garbage, "no archive");
    assert.match(
      (await image("import", garbage, other)).stderr,
      /garbage\.tar\.gz is not an archive of images/,
    );
    const absent = await image("import", join(world.folder, "absent"), other);
    assert.match(absent.stderr, /there is no archive .*absent/);
  });
});
