/** What the documentation shows of `fleetingd status` is what it prints for such a daemon. */
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import type { DaemonStatus, InstanceStatus } from "../../../src/api/status.ts";
import { renderStatus } from "../../../src/cli/status.ts";
import { madeUpDaemon } from "../../helpers/page-facts.ts";

const DOCS = join(import.meta.dirname, "../../../docs");
const USERS = "without capabilities, as users of their own (1900000000-1900065535)";
const CONNECTIONS = { entries: 38, limit: 262_144, isNearlyFull: false };

interface Example {
  daemon: Pick<DaemonStatus, "pid" | "uptimeSeconds" | "hypervisor" | "accelerator" | "confinement">;
  goldenImage: string;
  goldenImageAgeSeconds: number;
  instances: readonly (Pick<InstanceStatus, "id" | "ageSeconds" | "address"> & { group?: string })[];
}

/** A pool `ci` that keeps two VMs warm and has at most eight. */
function statusOf({ daemon, instances, ...image }: Example): DaemonStatus {
  const { status } = madeUpDaemon(instances.length);
  const all = instances.map((one, index) => {
    const made = status.instances[index] ?? assert.fail("too few");
    return { ...made, state: "ready" as const, group: null, ...one };
  });
  const [pool = assert.fail("no pool")] = status.pools;
  const numbers = {
    warm: { desired: 2, actual: 2 },
    counts: { creating: 0, ready: all.length, deleting: 0, failed: 0 },
    maxInstances: 8,
  };
  return {
    ...status,
    ...daemon,
    connections: CONNECTIONS,
    pools: [{ ...pool, ...image, ...numbers }],
    instances: all,
  };
}

const EXAMPLES: Readonly<Record<string, Example>> = {
  "tutorial.md": {
    daemon: {
      ...{ pid: 812, uptimeSeconds: 280, accelerator: "kvm", hypervisor: "QEMU 7.2.22 with KVM, pc-q35-7.2" },
      confinement: `${USERS}, in cgroups of their own`,
    },
    ...{ goldenImage: "d432840ccfeec475", goldenImageAgeSeconds: 109 },
    instances: [
      { id: "fl-p3g3mg6swb75", ageSeconds: 82, address: "172.16.120.6" },
      { id: "fl-gjsm9rqzw4hq", ageSeconds: 81, address: "172.16.120.10" },
    ],
  },
  "cli.md": {
    daemon: {
      ...{
        pid: 42,
        uptimeSeconds: 11,
        accelerator: "tcg",
        hypervisor: "QEMU 7.2.0 emulating (TCG), pc-q35-7.2",
      },
      confinement: `${USERS}, without cgroups of their own`,
    },
    ...{ goldenImage: "90b86f2799084708", goldenImageAgeSeconds: 9 },
    instances: [
      { id: "fl-m3f9pvn6jhjm", ageSeconds: 10, address: "172.16.0.6", group: "ci/team-a" },
      { id: "fl-fn4nmqbn92rb", ageSeconds: 10, address: "172.16.0.10" },
      { id: "fl-p96z6swjbt8w", ageSeconds: 4, address: "172.16.0.14" },
    ],
  },
};

for (const [page, example] of Object.entries(EXAMPLES)) {
  test(page, async () => {
    const [, shown] =
      /^\$ fleetingd status\n(.*?)^```$/ms.exec(await readFile(join(DOCS, page), "utf8")) ?? [];
    assert.equal(shown, `${renderStatus(statusOf(example)).join("\n")}\n`);
  });
}
