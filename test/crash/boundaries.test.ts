/**
 * The daemon is killed at each step boundary of making and of deleting an instance, one after the other, and started again
 * each time. Which boundaries there are is found out by a run that is not killed.
 *
 * The VMs are stand-ins. What it takes to go on from a snapshot comes on top, and so do some of the boundaries, each time others, at
 * which the instance that is made or deleted has a hypervisor: with real ones, under emulation, the job's included.
 */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { CrashSite, untilReady } from "../helpers/crash-site.ts";
import type { TestDaemon } from "../helpers/daemon.ts";
import { attachGroup, type GroupClient } from "../helpers/group-client.ts";
import { needsNamespace } from "../helpers/namespace.ts";
import { createEmulatedWorld, createStandInWorld, STAND_IN_POOL } from "../helpers/stand-in-world.ts";
import { failOnLeaks } from "../helpers/suite.ts";

failOnLeaks();

const WARM = 1;

/** What a client was told before the daemon died. */
interface Promised {
  accepted: boolean;
  /** The instance that was accepted, and whose end was not asked for. */
  id: string | undefined;
}

type Choice = (boundaries: readonly string[]) => string[];
const all: Choice = (boundaries) => [...boundaries];

/** Those at which a hypervisor of the instance concerned runs: the deleted one's to its end, the new one's from its start on. */
const withHypervisor: Choice = (boundaries) => {
  const end = boundaries.findLastIndex((boundary) =>
    /command quit|SIGKILL|end of the hypervisor/.test(boundary),
  );
  const start = boundaries.findIndex((boundary) => /start of the hypervisor/.test(boundary));
  assert.ok(start > 0 && end > 0, boundaries.join("\n"));
  return boundaries.filter((_, index) => index <= end || index >= start);
};

/** Those of the kinds before. */
const seen = new Set<string>();
const withoutCount = (boundary: string): string => boundary.replace(/#\d+$/, "");
const newOnes: Choice = (boundaries) => boundaries.filter((boundary) => !seen.has(withoutCount(boundary)));

const kinds = [
  {
    name: "stand-ins for VMs",
    createWorld: () => createStandInWorld(),
    pool: {},
    choose: all,
    // Fewer would mean that the preload misses what the daemon does.
    fewest: 50,
    every: 1,
  },
  {
    name: "stand-ins for VMs that go on from a snapshot",
    createWorld: () => createStandInWorld(),
    pool: { clone_mode: "snapshot" },
    choose: newOnes,
    fewest: 5,
    every: 1,
  },
  {
    name: "emulated VMs",
    createWorld: createEmulatedWorld,
    pool: {},
    choose: withHypervisor,
    fewest: 15,
    every: 4,
  },
] as const;

for (const { name, createWorld, pool, choose, fewest, every } of kinds) {
  describe(`a daemon that is killed, with ${name}`, { skip: needsNamespace() }, () => {
    let site: CrashSite;
    /** Of the daemon that runs. */
    let group: GroupClient;
    let promised: Promised = { accepted: false, id: undefined };

    before(async () => {
      // One after the other: the new instance is made where the deleted one was.
      site = new CrashSite(await createWorld(), { warm_instances: WARM, max_instances: 1 + WARM, ...pool });
      await site.open(WARM);
    });
    after(() => site.close());

    /** One job from its beginning to its end: a warm instance is claimed and deleted, and another one is made. */
    async function runJob(daemon: TestDaemon): Promise<void> {
      promised = { accepted: false, id: undefined };
      await site.arm(daemon);
      promised.accepted = (await group.increase(1)) === 1;
      const [id = ""] = (await group.list()).map((instance) => instance.id);
      promised.id = id;
      await group.connectInfo(id);
      promised.id = undefined;
      await group.decrease([id]);
      await untilReady(daemon, 1 + WARM);
    }

    /** The next daemon finds what the killed one left, keeps its promises and puts the rest in order. */
    async function recovers(daemon: TestDaemon): Promise<void> {
      const { accepted, id } = promised;
      group = await attachGroup(daemon.client, { pool: STAND_IN_POOL, group: "crashed" });
      const claimed = (await group.list()).map((instance) => instance.id);
      if (accepted && id !== undefined) assert.deepEqual(claimed, [id], "what was accepted is kept");
      await group.decrease(claimed);
      await site.converged(daemon, WARM);
      await site.jobGoesOn();
    }

    test("at the boundaries of creation and deletion leaves nothing, and loses nothing", async () => {
      await site.killAtEach({
        ...{ what: `with ${name}`, recovers, act: runJob, fewest, sample: { every } },
        choose(boundaries) {
          const chosen = choose(boundaries);
          for (const boundary of boundaries) seen.add(withoutCount(boundary));
          return chosen;
        },
      });
    });
  });
}
