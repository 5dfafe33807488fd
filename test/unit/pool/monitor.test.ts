import assert from "node:assert/strict";
import { once } from "node:events";
import { describe, test } from "node:test";
import { type Entry, newEntry } from "../../../src/pool/entry.ts";
import { newRecord } from "../../../src/pool/instance.ts";
import { Monitor } from "../../../src/pool/monitor.ts";

const TIMEOUT_MS = 40;
const connectInfo = {
  os: "linux",
  arch: "amd64",
  protocol: "ssh",
  username: "ubuntu",
  privateKey: "",
  address: "192.0.2.1",
  port: 22,
} as const;

function ready(): Entry {
  const record = { ...newRecord("p", undefined, Date.now()), state: "ready" as const, connectInfo };
  return newEntry(record, true);
}

/** Ticks until `done`, as the pool does. */
async function tickUntil(monitor: Monitor, done: () => boolean): Promise<void> {
  while (!done()) {
    monitor.tick();
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
  await monitor.stop();
}

describe("the monitor", () => {
  test("tells of an instance that is silent for too long, with the last reason, and of no other", async () => {
    const [dead, living] = [ready(), ready()];
    living.record.connectInfo = { ...connectInfo, address: "192.0.2.2" };
    const sick: string[] = [];
    const monitor = new Monitor({
      entries: new Map([dead, living].map((entry) => [entry.record.id, entry])),
      source: {
        check: async (instance) => {
          if (instance.connectInfo.address === connectInfo.address) throw new Error("no route");
          return undefined;
        },
      },
      settings: () => ({ heartbeatTimeoutMs: TIMEOUT_MS }),
      onSick: (id, reason) => sick.push(`${id} ${reason}`),
      onTrouble: assert.fail,
    });
    await tickUntil(monitor, () => sick.length > 0);
    assert.ok(sick.every((text) => text.startsWith(dead.record.id)));
    assert.match(sick[0] ?? "", /has not answered for 0 s: no route/);
  });

  test("asks one that is silent more often than one that answers, so that it is found in time", async () => {
    const [silent, living] = [ready(), ready()];
    silent.record.group = "g";
    const asked = { silent: [] as number[], living: [] as number[] };
    let now = performance.now();
    const monitor = new Monitor({
      entries: new Map([silent, living].map((entry) => [entry.record.id, entry])),
      source: {
        check: async ({ isClaimed }) => {
          asked[isClaimed ? "silent" : "living"].push(now);
          if (isClaimed) throw new Error("nobody is there");
          return undefined;
        },
      },
      settings: () => ({ heartbeatTimeoutMs: 60_000 }),
      onSick: assert.fail,
      onTrouble: assert.fail,
    });
    // The first question comes at any point of the first round.
    for (let second = 0; second < 90; second++) {
      now += 1_000;
      monitor.tick(now);
      await new Promise(setImmediate);
    }
    await monitor.stop();
    const pausesOf = (times: readonly number[]): number[] =>
      times.slice(1).map((at, index) => Math.round(at - (times[index] ?? 0)));
    const [silentPauses, livingPauses] = [pausesOf(asked.silent), pausesOf(asked.living)];
    assert.ok(livingPauses.length > 0 && livingPauses.every((ms) => ms >= 30_000), String(livingPauses));
    assert.ok(silentPauses.length > 3 && silentPauses.every((ms) => ms < 10_000), String(silentPauses));
  });

  test("does not take its own standstill for an instance's", async () => {
    const entry = ready();
    const sick: string[] = [];
    let asked = 0;
    const monitor = new Monitor({
      entries: new Map([[entry.record.id, entry]]),
      source: {
        check: async () => {
          if (++asked === 1) throw new Error("too late");
          return undefined;
        },
      },
      settings: () => ({ heartbeatTimeoutMs: TIMEOUT_MS }),
      onSick: (id) => sick.push(id),
      onTrouble: assert.fail,
    });
    entry.seenAt -= 10 * TIMEOUT_MS;
    await tickUntil(monitor, () => asked >= 4);
    assert.deepEqual(sick, []);
  });

  test("asks nobody who is not ready, and one question at a time", async () => {
    const [creating, slow] = [ready(), ready()];
    creating.record.state = "creating";
    let asking = 0;
    let asked = 0;
    const monitor = new Monitor({
      entries: new Map([creating, slow].map((entry) => [entry.record.id, entry])),
      source: {
        check: async (_, { answerMs }) => {
          asked++;
          asking++;
          assert.equal(asking, 1);
          await new Promise((resolve) => setTimeout(resolve, answerMs));
          asking--;
          return undefined;
        },
      },
      settings: () => ({ heartbeatTimeoutMs: TIMEOUT_MS }),
      onSick: assert.fail,
      onTrouble: assert.fail,
    });
    await tickUntil(monitor, () => asked >= 3);
  });

  test("tells once of one that answers and has trouble, and knows whether a job is there", async () => {
    const [idle, claimed] = [ready(), ready()];
    claimed.record.group = "g";
    const told: string[] = [];
    let asked = 0;
    const entries = new Map([idle, claimed].map((entry) => [entry.record.id, entry]));
    const monitor = new Monitor({
      entries,
      source: {
        check: async ({ isClaimed }) => {
          asked++;
          return isClaimed ? "full" : undefined;
        },
      },
      settings: () => ({ heartbeatTimeoutMs: TIMEOUT_MS }),
      onSick: assert.fail,
      onTrouble: (id, reason) => {
        told.push(`${id} ${reason}`);
        Object.assign(entries.get(id) ?? {}, { trouble: reason });
      },
    });
    await tickUntil(monitor, () => asked >= 6);
    assert.deepEqual(told, [`${claimed.record.id} full`]);
  });

  test("asks an idle one nothing more when it is claimed, and holds nothing of that against it", async () => {
    const entry = ready();
    let withdrawn = false;
    const monitor = new Monitor({
      entries: new Map([[entry.record.id, entry]]),
      source: {
        check: async ({ isClaimed }, { signal }) => {
          if (isClaimed) return undefined;
          entry.record.group = "g";
          await once(signal, "abort");
          withdrawn = true;
          throw new Error("aborted");
        },
      },
      settings: () => ({ heartbeatTimeoutMs: TIMEOUT_MS }),
      onSick: assert.fail,
      onTrouble: assert.fail,
    });
    entry.seenAt -= TIMEOUT_MS;
    await tickUntil(monitor, () => withdrawn);
  });

  test("0 asks nobody", async () => {
    const entry = ready();
    entry.seenAt = 0;
    const monitor = new Monitor({
      entries: new Map([[entry.record.id, entry]]),
      source: { check: assert.fail },
      settings: () => ({ heartbeatTimeoutMs: 0 }),
      onSick: assert.fail,
      onTrouble: assert.fail,
    });
    monitor.tick();
    await monitor.stop();
    assert.equal(entry.seenAt, 0);
  });
});
