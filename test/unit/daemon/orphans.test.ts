import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { startOrphanWatch } from "../../../src/daemon/orphans.ts";
import { waitFor } from "../../../src/host/wait.ts";
import { silentLogger } from "../../../src/log.ts";

/** A pool as far as the watch knows it. */
function poolOf(owned: Record<string, string[]>, orphanTimeoutMs: number) {
  const released: string[] = [];
  const pool = {
    groups: () => Object.keys(owned),
    list: (group: string) => (owned[group] ?? []).map((id) => ({ id })),
    release: async (group: string, ids: readonly string[]) => {
      released.push(...ids);
      delete owned[group];
      return [...ids];
    },
  };
  return { released, entry: { pool, config: { orphanTimeoutMs } } as never };
}

describe("orphans", () => {
  test("are released when their plugin has been away for long enough, and nobody else's are", async () => {
    const soon = poolOf({ gone: ["fl-1", "fl-2"], here: ["fl-3"] }, 1);
    const never = poolOf({ gone: ["fl-4"] }, 0);
    const later = poolOf({ other: ["fl-5"] }, 3_600_000);
    const stop = startOrphanWatch(
      { isAttached: (group) => group === "here" },
      () => [soon.entry, never.entry, later.entry],
      silentLogger,
    );
    await waitFor(async () => (soon.released.length > 0 ? true : undefined), {
      timeoutMs: 20_000,
      intervalMs: 10,
      what: "the release",
    });
    stop();
    assert.deepEqual(soon.released, ["fl-1", "fl-2"]);
    assert.deepEqual([never.released, later.released], [[], []]);
  });
});
