/** Which golden image a prebuild takes or makes; no VM is started, for every prebuild here ends at its missing base. */
import assert from "node:assert/strict";
import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, test } from "node:test";
import { renderPrebuildUserData } from "../../../src/cloudinit/prebuild.ts";
import { loadTemplates } from "../../../src/cloudinit/templates.ts";
import { goldenName } from "../../../src/images/golden.ts";
import type { BaseImage } from "../../../src/images/image.ts";
import { silentLogger } from "../../../src/log.ts";
import { GoldenImages, type GoldenImagesOptions } from "../../../src/sources/local/golden-images.ts";

const HOUR_MS = 3_600_000;
const PREBUILD = {
  bootProfile: "fast",
  extraCommands: [],
  packageUpdate: false,
  packageUpgrade: false,
  packages: [],
} as const;

let directory: string;
let base: BaseImage;
let images: GoldenImages;
let inputs: string;
/** How many prebuilds there were. */
let begun: number;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "golden-images-"));
  base = baseImage("base-1");
  const templates = await loadTemplates();
  begun = 0;
  images = new GoldenImages({
    pool: "ci",
    events: ({ kind }) => {
      if (kind === "image-begun") begun++;
    },
    diskDirectory: directory,
    diskSizeGiB: 4,
    baseKey: "default",
    ensureBase: async () => base,
    prebuild: PREBUILD,
    templates,
    logger: silentLogger,
    // Not reached: there is no base image to copy.
    host: undefined as unknown as GoldenImagesOptions["host"],
    makeSnapshot: async () => undefined,
    machine: undefined as unknown as GoldenImagesOptions["machine"],
  });
  inputs = goldenName({
    baseName: "base-1",
    userData: renderPrebuildUserData(PREBUILD, templates),
    diskSizeGiB: 4,
    bootProfile: "fast",
    templateVersion: templates.version,
  });
});

afterEach(async () => {
  await rm(directory, { recursive: true });
});

function baseImage(name: string): BaseImage {
  return {
    name,
    diskPath: join(directory, "absent"),
    diskFormat: "raw",
    kernelPath: join(directory, "absent"),
    initrdPath: undefined,
    rootDevice: "/dev/vda",
    kernelArguments: [],
    createdAt: new Date(),
  };
}

async function publish(name: string, ageMs: number, madeOf = inputs): Promise<void> {
  const createdAt = new Date(Date.now() - ageMs).toISOString();
  const stored = {
    name,
    inputs: madeOf,
    initrd: false,
    rootDevice: "/dev/vda",
    kernelArguments: [],
    createdAt,
  };
  await mkdir(join(directory, "golden", name), { recursive: true });
  await writeFile(join(directory, "golden", name, "image.json"), JSON.stringify(stored));
}

const use = (name: string): Promise<void> =>
  writeFile(join(directory, "golden", images.pointerName), `${name}\n`);
const refresh = (options: { force?: boolean; maxAgeMs?: number } = {}) =>
  images.refresh({
    force: false,
    ...options,
    signal: new AbortController().signal,
    onStep: () => undefined,
  });
const makesNew = /absent/;

describe("golden images", () => {
  test("what was made of the same is taken, and remembered", async () => {
    await publish(inputs, 9 * HOUR_MS);
    assert.equal((await refresh()).name, inputs);
    assert.equal(await readFile(join(directory, "golden", images.pointerName), "utf8"), `${inputs}\n`);
  });

  test("one that was made anew of the same is not given up for the first one", async () => {
    await publish(inputs, 30 * HOUR_MS);
    await publish("0123456789abcdef", 9 * HOUR_MS);
    await use("0123456789abcdef");
    assert.equal((await refresh()).name, "0123456789abcdef");
    assert.equal((await refresh({ maxAgeMs: 24 * HOUR_MS })).name, "0123456789abcdef");
  });

  test("one that could not be made is tried again by the next call, and no failure is remembered", async () => {
    await assert.rejects(refresh(), makesNew);
    await assert.rejects(images.current(new AbortController().signal), makesNew);
    assert.equal(begun, 2);
    await publish(inputs, 9 * HOUR_MS);
    assert.equal((await refresh()).name, inputs);
    assert.deepEqual([images.status.state, images.status.lastError], ["done", undefined]);
  });

  test("one that is too old is made anew, and stays in use when that fails", async () => {
    await publish(inputs, 25 * HOUR_MS);
    await use(inputs);
    await assert.rejects(refresh({ maxAgeMs: 24 * HOUR_MS }), makesNew);
    await images.recall();
    const { current, state, lastError } = images.status;
    assert.equal(current?.name, inputs);
    assert.equal(state, "failed");
    assert.match(lastError ?? "", makesNew);
  });

  test("so it is when the base image is a newer one, or by force", async () => {
    await publish(inputs, HOUR_MS);
    await use(inputs);
    await assert.rejects(refresh({ force: true }), makesNew);
    base = baseImage("base-2");
    await assert.rejects(refresh(), makesNew);
    assert.equal(images.status.baseName, "base-2");
  });
});
