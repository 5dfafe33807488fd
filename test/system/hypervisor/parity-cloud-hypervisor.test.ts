/**
 * The contract of hypervisors, with Cloud Hypervisor's stand-in, and with the real one where it is on PATH and may use KVM. Every
 * request that is sent on the way is checked against the API's own description.
 */
import assert from "node:assert/strict";
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, test } from "node:test";
import { detectAccelerator } from "../../../src/hypervisor/accelerator.ts";
import { createCloudHypervisorDriver } from "../../../src/hypervisor/cloud-hypervisor/driver.ts";
import { silentLogger } from "../../../src/log.ts";
import { loadApiDescription, type NotedRequest } from "../../helpers/cloud-hypervisor/api-description.ts";
import { READERS } from "../../helpers/hypervisor-fixture.ts";
import { obstacleToCloudHypervisor } from "../../helpers/hypervisor-programs.ts";
import { describeParity, type Subject } from "../../helpers/parity.ts";

const COMMON = {
  name: "cloud-hypervisor",
  description: /^Cloud Hypervisor \d+\.\d+\.\d+ with KVM/,
  socket: "api.sock",
  says: {
    noKernel: [/Cannot open kernel file/],
    noDisk: [/disk/i],
    wrongFormat: /qcow|magic/i,
    tapInUse: /busy/i,
    memory: /memory/i,
  },
  create: (startTimeoutMs?: number) =>
    createCloudHypervisorDriver({
      logger: silentLogger,
      readers: READERS,
      ...(startTimeoutMs === undefined ? {} : { startTimeoutMs }),
    }),
} as const satisfies Partial<Subject>;

const SENT = [
  "vm.boot",
  "vm.create",
  "vm.info",
  "vm.pause",
  "vm.power-button",
  "vm.remove-device",
  "vm.resize",
  "vm.restore",
  "vm.resume",
  "vm.snapshot",
  "vmm.ping",
  "vmm.shutdown",
];

describeParity({
  ...COMMON,
  title: "Cloud Hypervisor's stand-in",
  which: "stand-in",
  guest: { kind: "stand-in" },
  hasSeccomp: false,
  finish: judgeRequests,
});

const obstacle = await obstacleToCloudHypervisor();
if (obstacle === undefined) {
  describeParity({
    ...COMMON,
    title: "Cloud Hypervisor",
    which: "cloud-hypervisor",
    guest: (await guestsBoot()) ? { kind: "real" } : { kind: "none", reason: "no KVM that guests boot with" },
    hasSeccomp: true,
  });
} else {
  describe("the contract of hypervisors: Cloud Hypervisor", () => {
    test("all of it", { skip: obstacle }, () => undefined);
  });
}

async function guestsBoot(): Promise<boolean> {
  return (await detectAccelerator({ logger: silentLogger })).kind === "kvm";
}

/** All that the driver can send was sent on the way, and is as the API's description has it. */
async function judgeRequests(root: string): Promise<void> {
  const judge = await loadApiDescription();
  const logs = (await readdir(root, { recursive: true })).filter((path) => path.endsWith("requests.log"));
  const texts = await Promise.all(logs.map((path) => readFile(join(root, path), "utf8")));
  const requests = texts
    .flatMap((text) => text.trim().split("\n"))
    .map((line) => JSON.parse(line) as NotedRequest);
  assert.deepEqual(
    requests.flatMap((request) => judge(request) ?? []),
    [],
  );
  assert.deepEqual([...new Set(requests.map(({ name }) => name))].sort(), SENT);
}
