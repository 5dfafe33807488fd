/** A golden image gets too old: the daemon makes a new one while a job runs, and replaces the idle VM. */
import assert from "node:assert/strict";
import { readdir, readFile, utimes, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { execa } from "execa";
import type { output, ZodType } from "zod";
import { gcReportSchema, imageListSchema } from "../../src/api/images.ts";
import type { InstanceStatus } from "../../src/api/status.ts";
import type { PluginClient } from "../../src/cli/demo/plugin-client.ts";
import { removeTree } from "../../src/host/files.ts";
import { waitFor } from "../../src/host/wait.ts";
import { listSnapshots } from "../../src/images/snapshots.ts";
import { parseExactly } from "../helpers/command-line.ts";
import { FLEETINGD, IMAGES, poolToml, startTestDaemon, type TestDaemon } from "../helpers/daemon.ts";
import { needsNamespace } from "../helpers/namespace.ts";
import { failOnLeaks } from "../helpers/suite.ts";

const ROLLOVER_TIMEOUT_MS = 15 * 60_000;
const DAY_MS = 86_400_000;

failOnLeaks();

describe("a golden image that is too old", { skip: needsNamespace() }, () => {
  let daemon: TestDaemon;
  let old: string;
  let plugin: PluginClient;
  let claimed: string;
  let made: string | undefined;

  before(async () => {
    const first = await startTestDaemon({ pools: poolToml("default") });
    old = await first.prebuild("default");
    await first.stop();
    await makeOlder(old);
    daemon = await startTestDaemon({
      // A snapshot of the new image would be made for one VM.
      pools: poolToml("default", { warm_instances: 1, prebuild_interval: "24h", clone_mode: "boot" }),
    });
    await daemon.untilWarm("default", 1);
    plugin = await daemon.attach({ pool: "default" });
    assert.equal(await plugin.increase(1), 1);
    claimed = (await plugin.update())[0]?.instance ?? "";
  });

  after(async () => {
    await daemon.stop();
    if (made !== undefined) await removeTree(join(IMAGES, "golden", made));
    for (const { goldenImage, directory } of await listSnapshots(IMAGES))
      if (goldenImage === made) await removeTree(directory);
  });

  const ask = async <T extends ZodType>(schema: T, ...args: string[]): Promise<output<T>> => {
    const { stdout } = await execa(FLEETINGD, ["--socket", daemon.socket, ...args, "--json"]);
    return parseExactly(schema, stdout);
  };

  test("is made anew, and the idle VM replaced by one of the new image", async () => {
    const isNew = ({ group, state, goldenImage }: InstanceStatus): boolean =>
      group === null && state === "ready" && goldenImage !== null && goldenImage !== old;
    const fresh = await waitFor(async () => (await daemon.status()).instances.find(isNew), {
      timeoutMs: ROLLOVER_TIMEOUT_MS,
      intervalMs: 100,
      what: "an idle VM of a new image",
    });
    made = fresh.goldenImage ?? undefined;
    await waitFor(async () => ((await daemon.status()).instances.length === 2 ? true : undefined), {
      timeoutMs: 60_000,
      intervalMs: 50,
      what: "the older idle VM to be gone",
    });
    const status = await daemon.status();
    assert.equal(status.pools[0]?.goldenImage, made);
    assert.equal(status.pools[0]?.prebuild.state, "done");
    const dayInSeconds = DAY_MS / 1000;
    const nextInSeconds = status.pools[0]?.prebuild.nextInSeconds ?? 0;
    assert.ok(nextInSeconds > 0 && nextInSeconds <= dayInSeconds, `${nextInSeconds}`);
  });

  test("stays for the job that is in a VM of it", async () => {
    const job = (await daemon.status()).instances.find(({ id }) => id === claimed);
    assert.equal(job?.state, "ready");
    assert.equal(job?.goldenImage, old);
    const { images } = await ask(imageListSchema, "images");
    const users = new Map(images.map(({ name, vms, current }) => [name, { vms, current }]));
    assert.deepEqual(users.get(old), { vms: 1, current: false });
    assert.deepEqual(users.get(made ?? ""), { vms: 1, current: true });
    const { directories } = await ask(gcReportSchema, "gc", "--dry-run");
    const doomed = directories.flatMap(({ removed }) => removed.map(({ path }) => path));
    assert.ok(!doomed.includes(join(IMAGES, "golden", old)), doomed.join(", "));
    assert.ok((await readdir(join(IMAGES, "golden"))).includes(old));
  });

  test("goes when the job has ended", async () => {
    await plugin.decrease([claimed]);
    await waitFor(
      async () => ((await daemon.status()).instances.some(({ id }) => id === claimed) ? undefined : true),
      { timeoutMs: 60_000, intervalMs: 50, what: "the job's VM to be gone" },
    );
    const { directories } = await ask(gcReportSchema, "gc", "--dry-run");
    const doomed = directories.flatMap(({ removed }) => removed.map(({ path }) => path));
    assert.ok(doomed.includes(join(IMAGES, "golden", old)), doomed.join(", "));
  });
});

/** As if it had been made two days ago, and all that other tests have used since. */
async function makeOlder(name: string): Promise<void> {
  const golden = join(IMAGES, "golden");
  const then = new Date(Date.now() - 2 * DAY_MS);
  const pointers = (await readdir(golden)).filter((file) => file.startsWith(".current-"));
  for (const file of pointers) await utimes(join(golden, file), then, then);
  const descriptions = [join(golden, name, "image.json")];
  for (const { goldenImage, directory } of await listSnapshots(IMAGES))
    if (goldenImage === name) descriptions.push(join(directory, "snapshot.json"));
  for (const path of descriptions) {
    const description = JSON.parse(await readFile(path, "utf8")) as Record<string, unknown>;
    await writeFile(path, JSON.stringify({ ...description, createdAt: then.toISOString() }));
  }
}
