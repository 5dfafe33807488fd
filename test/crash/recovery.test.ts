/**
 * The daemon is killed while it puts in order what a killed one left: at each step boundary from its start until it has come
 * to rest. What it finds is of each kind: a job's instance, one whose machine is gone, one that was being made, one that was
 * being deleted, and a machine that no record names.
 */
import assert from "node:assert/strict";
import { readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { CrashSite, died, LOOKS, sampled, startOrDie, untilReady } from "../helpers/crash-site.ts";
import type { TestDaemon } from "../helpers/daemon.ts";
import { needsNamespace } from "../helpers/namespace.ts";
import { createStandInWorld } from "../helpers/stand-in-world.ts";
import { failOnLeaks } from "../helpers/suite.ts";

failOnLeaks();

const WARM = 4;
/** Fewer would mean that the preload misses what the daemon does. */
const FEWEST_BOUNDARIES = 30;
/** Most of them are of one kind: one in so many, others each time. */
const SAMPLE = { every: 8 };
/** It makes no instances, so that all that it does is recovery. */
const ARMED = { env: { FLEETINGD_ARMED: "1" }, pool: { warm_instances: 0 } };

describe("a daemon that is killed while it recovers", { skip: needsNamespace() }, () => {
  let site: CrashSite;

  before(async () => {
    site = new CrashSite(await createStandInWorld(), { warm_instances: WARM, max_instances: 1 + WARM });
    await site.open(WARM);
  });
  after(() => site.close());

  /** Ends a daemon and makes of each idle instance of it another kind of leftover. */
  async function leaveBehind(daemon: TestDaemon): Promise<void> {
    const idle = (await daemon.status()).instances.filter(({ group }) => group === null);
    await site.kill(daemon);
    const [made = "", deleted = "", dead = "", unknown = ""] = idle.map(({ id }) =>
      join(site.world.stateDirectory, "vms", id, "record.json"),
    );
    await changeRecord(made, { state: "creating" });
    await changeRecord(deleted, { state: "deleting" });
    process.kill((await readRecord(dead)).data.process.pid, "SIGKILL");
    await rm(unknown);
  }

  test("at every boundary leaves nothing, and loses nothing", async () => {
    let daemon = await site.start();
    await site.converged(daemon, WARM);
    await leaveBehind(daemon);
    const watched = await site.startArmable(undefined, ARMED);
    await untilReady(watched, 1);
    const boundaries = (await site.boundaries()).filter((boundary) => !LOOKS.test(boundary));
    await site.kill(watched);
    assert.ok(boundaries.length >= FEWEST_BOUNDARIES, boundaries.join("\n"));

    let kills = 0;
    const sample = sampled(boundaries, SAMPLE);
    for (const boundary of sample) {
      daemon = await site.start();
      try {
        await site.converged(daemon, WARM);
        await site.jobGoesOn();
        await leaveBehind(daemon);
        if (await diesAt(boundary)) kills++;
      } catch (error) {
        throw new Error(`around the boundary "${boundary}":\n${daemon.log()}`, { cause: error });
      } finally {
        await site.kill(daemon);
      }
    }
    daemon = await site.start();
    await site.converged(daemon, WARM);
    await site.jobGoesOn();
    await site.kill(daemon);
    process.stdout.write(`killed at ${kills} of ${boundaries.length} boundaries, while it recovered\n`);
    // What is done for several at once falls together in another way each time.
    assert.ok(kills >= sample.length / 2, `${kills} of ${sample.length} boundaries came again`);
  });

  /** It may be dead before it has answered anybody. */
  async function diesAt(boundary: string): Promise<boolean> {
    const daemon = await startOrDie(() => site.startArmable(boundary, ARMED));
    if (daemon === undefined) return true;
    // Else it must have died meanwhile.
    await untilReady(daemon, 1).catch((error) => died(daemon, error));
    const isDead = daemon.process.signalCode === "SIGKILL";
    await site.kill(daemon);
    return isDead;
  }
});

interface StoredRecord {
  data: { process: { pid: number } };
}

async function readRecord(path: string): Promise<StoredRecord> {
  return JSON.parse(await readFile(path, "utf8")) as StoredRecord;
}

async function changeRecord(path: string, change: Readonly<Record<string, unknown>>): Promise<void> {
  await writeFile(path, JSON.stringify({ ...(await readRecord(path)), ...change }));
}
