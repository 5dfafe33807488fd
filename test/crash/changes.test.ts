/**
 * The daemon is killed at each step boundary of taking over a configuration with another pool, of beginning to drain the host
 * and of putting it back, while a job is connected to a VM. Stand-ins for VMs.
 */
import assert from "node:assert/strict";
import { once } from "node:events";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { waitFor } from "../../src/host/wait.ts";
import { CrashSite, LOOKS } from "../helpers/crash-site.ts";
import { poolToml, type TestDaemon } from "../helpers/daemon.ts";
import { needsNamespace } from "../helpers/namespace.ts";
import { createStandInWorld } from "../helpers/stand-in-world.ts";
import { failOnLeaks } from "../helpers/suite.ts";

failOnLeaks();

const TIMEOUT_MS = 60_000;
/** Fewer would mean that the preload misses what the daemon does. */
const FEWEST_BOUNDARIES = 10;

describe("a daemon that is killed while somebody changes what it does", { skip: needsNamespace() }, () => {
  let site: CrashSite;
  /** Whether the host is being drained; undefined: perhaps. */
  let acknowledged: boolean | undefined = false;

  before(async () => {
    site = new CrashSite(await createStandInWorld(), { warm_instances: 0, max_instances: 2 });
    await site.open(0);
  });
  after(() => site.close());

  const isDrained = async (daemon: TestDaemon): Promise<boolean> =>
    (await daemon.status()).pools.every(({ draining }) => draining);

  /** Begins to drain the host, whose job goes on, or ends that; what it answers holds from then on. */
  async function drain(daemon: TestDaemon, undo: boolean): Promise<void> {
    const stream = daemon.client.drain({ undo }, { deadline: Date.now() + TIMEOUT_MS });
    acknowledged = undefined;
    stream.resume();
    await once(stream, undo ? "end" : "data");
    acknowledged = !undo;
    // It is cancelled here, or the daemon dies.
    stream.on("error", () => undefined);
    stream.cancel();
  }

  async function change(daemon: TestDaemon): Promise<void> {
    await site.arm(daemon);
    const path = join(site.world.folder, "config.toml");
    const more = poolToml("later", {
      vm_subnet: "172.17.0.0/24",
      vm_disk_directory: site.world.diskDirectory,
    });
    await writeFile(path, (await readFile(path, "utf8")) + more);
    daemon.process.kill("SIGHUP");
    const isRead = async (): Promise<true | undefined> => {
      if (daemon.process.signalCode !== null) throw new Error("the daemon is dead");
      return /the configuration was read again/.test(daemon.log()) ? true : undefined;
    };
    const options = { timeoutMs: TIMEOUT_MS, intervalMs: 5, what: "the configuration to be read" };
    await waitFor(isRead, options);
    await drain(daemon, false);
    await drain(daemon, true);
  }

  /** The host is drained or not, as was said last. */
  async function recovers(daemon: TestDaemon): Promise<void> {
    await site.converged(daemon, 0);
    await site.jobGoesOn();
    assert.equal(await isDrained(daemon), acknowledged ?? (await isDrained(daemon)));
    await drain(daemon, true);
    assert.equal(await isDrained(daemon), false);
  }

  test("leaves one or the other, and the job as it is", async () => {
    await site.killAtEach({
      ...{ what: "while it was changed", recovers, act: change, fewest: FEWEST_BOUNDARIES },
      choose: (boundaries) => boundaries.filter((boundary) => !LOOKS.test(boundary)),
    });
  });
});
