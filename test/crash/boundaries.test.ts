/**
 * The daemon is killed at each step boundary of making and of deleting an instance, one after the other, and started again
 * each time. Which boundaries there are is found out by a run that is not killed.
 *
 * Where an instance that is made or deleted has a hypervisor at that moment, that is a real one, and so is the one of the job
 * that is connected all the while; elsewhere both are stand-ins. What it takes to go on from a snapshot comes on top.
 */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { CrashSite, died, sampled, untilReady } from "../helpers/crash-site.ts";
import type { TestDaemon } from "../helpers/daemon.ts";
import { attachGroup } from "../helpers/group-client.ts";
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

/** Whether a hypervisor of the instance concerned runs at each of these boundaries. */
type Choice = (boundaries: readonly string[]) => boolean[];

/** The deleted one has a hypervisor from the beginning to its end, the new one from its start on. */
const withHypervisor: Choice = (boundaries) => {
  const end = boundaries.findLastIndex((boundary) =>
    /command quit|SIGKILL|end of the hypervisor/.test(boundary),
  );
  const start = boundaries.findIndex((boundary) => /start of the hypervisor/.test(boundary));
  assert.ok(start > 0 && end > 0, boundaries.join("\n"));
  return boundaries.map((_, index) => index <= end || index >= start);
};
const withoutHypervisor: Choice = (boundaries) => withHypervisor(boundaries).map((has) => !has);

const seen = new Set<string>();
const withoutCount = (boundary: string): string => boundary.replace(/#\d+$/, "");
const newOnes: Choice = (boundaries) => boundaries.map((boundary) => !seen.has(withoutCount(boundary)));

const kinds = [
  {
    name: "stand-ins for VMs",
    createWorld: () => createStandInWorld(),
    pool: {},
    choose: withoutHypervisor,
    // Fewer would mean that the preload misses what the daemon does.
    fewest: 30,
  },
  {
    name: "stand-ins for VMs that go on from a snapshot",
    createWorld: () => createStandInWorld(),
    pool: { clone_mode: "snapshot" },
    choose: newOnes,
    fewest: 5,
  },
  { name: "emulated VMs", createWorld: createEmulatedWorld, pool: {}, choose: withHypervisor, fewest: 15 },
] as const;

for (const { name, createWorld, pool, choose, fewest } of kinds) {
  describe(`a daemon that is killed, with ${name}`, { skip: needsNamespace() }, () => {
    let site: CrashSite;

    before(async () => {
      // One after the other: the new instance is made where the deleted one was.
      site = new CrashSite(await createWorld(), { warm_instances: WARM, max_instances: 1 + WARM, ...pool });
      await site.open(WARM);
    });
    after(() => site.close());

    /** One job from its beginning to its end: a warm instance is claimed and deleted, and another one is made. */
    async function runJob(daemon: TestDaemon, promised: Promised): Promise<void> {
      const group = await attachGroup(daemon.client, { pool: STAND_IN_POOL, group: "crashed" });
      await site.arm(daemon);
      promised.accepted = (await group.increase(1)) === 1;
      const [id = ""] = (await group.list()).map((instance) => instance.id);
      promised.id = id;
      await group.connectInfo(id);
      promised.id = undefined;
      await group.decrease([id]);
      await untilReady(daemon, 1 + WARM);
      group.detach();
    }

    /** The next daemon finds what the killed one left, keeps its promises and puts the rest in order. */
    async function recovers(daemon: TestDaemon, { accepted, id }: Promised): Promise<void> {
      const group = await attachGroup(daemon.client, { pool: STAND_IN_POOL, group: "crashed" });
      const claimed = (await group.list()).map((instance) => instance.id);
      if (accepted && id !== undefined) assert.deepEqual(claimed, [id], "what was accepted is kept");
      await group.decrease(claimed);
      await site.converged(daemon, WARM);
      group.detach();
      await site.jobGoesOn();
    }

    test("at every boundary of creation and deletion leaves nothing, and loses nothing", async () => {
      const watched = await site.startArmable();
      await runJob(watched, { accepted: false, id: undefined });
      const boundaries = await site.boundaries();
      await site.kill(watched);
      const chosen = choose(boundaries);
      for (const boundary of boundaries) seen.add(withoutCount(boundary));
      const wanted = boundaries.filter((_, index) => chosen[index]);
      assert.ok(wanted.length >= fewest, boundaries.join("\n"));

      const missed: string[] = [];
      let promised: Promised = { accepted: false, id: undefined };
      const sample = sampled(wanted);
      for (const boundary of [...sample, undefined]) {
        const daemon = await site.startArmable(boundary);
        try {
          await recovers(daemon, promised);
          promised = { accepted: false, id: undefined };
          if (boundary !== undefined) await runJob(daemon, promised).catch((error) => died(daemon, error));
        } catch (error) {
          throw new Error(`around the boundary "${boundary}":\n${daemon.log()}`, { cause: error });
        } finally {
          if (daemon.process.signalCode === null && boundary !== undefined) missed.push(boundary);
          await site.kill(daemon);
        }
      }
      const kills = sample.length - missed.length;
      process.stdout.write(`killed at ${kills} boundaries of ${boundaries.length}, with ${name}\n`);
      assert.ok(missed.length <= 1 + sample.length * 0.05, `these did not come again:\n${missed.join("\n")}`);
    });
  });
}
