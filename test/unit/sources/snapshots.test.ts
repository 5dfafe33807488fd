import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { mkdir, mkdtemp, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, test } from "node:test";
import type { HypervisorDriver } from "../../../src/hypervisor/driver.ts";
import type { GoldenImage } from "../../../src/images/image.ts";
import { snapshotName } from "../../../src/images/snapshots.ts";
import { silentLogger } from "../../../src/log.ts";
import { createLeases } from "../../../src/network/leases.ts";
import { parseVmSubnet } from "../../../src/network/slots.ts";
import { Admission } from "../../../src/sources/local/admission.ts";
import { type CloneMode, Snapshots } from "../../../src/sources/local/snapshots.ts";

const MEMORY_MIB = 1;
const PLATFORM = "qemu 7.2.22 pc-q35-7.2 tcg EPYC-v1";
const SUBNET = parseVmSubnet("172.16.0.0/24");
const SIGNAL = new AbortController().signal;
const GOLDEN = { name: "golden" } as GoldenImage;
const MACHINE = {
  vcpus: 1,
  memoryMiB: MEMORY_MIB,
  console: "serial",
  subnet: SUBNET,
  subnet6: undefined,
  dnsServers: [],
  bootTimeoutMs: 1_000,
  limits: {
    memoryOverheadMiB: 0,
    cpuWeight: 100,
    cpuPercent: 100,
    diskMiBPerSecond: 0,
    diskOperationsPerSecond: 0,
  },
} as const;

let diskDirectory: string;

beforeEach(async () => {
  diskDirectory = await mkdtemp(join(tmpdir(), "snapshots-"));
});
afterEach(() => rm(diskDirectory, { recursive: true }));

/** As a template would leave it, for this platform. */
async function leaveSnapshot(platform = PLATFORM): Promise<string> {
  const name = snapshotName({ ...MACHINE, goldenImage: GOLDEN.name, platform });
  const directory = join(diskDirectory, "snapshots", name);
  await mkdir(join(directory, "state"), { recursive: true });
  await writeFile(join(directory, "memory"), Buffer.alloc(MEMORY_MIB * 1024 ** 2));
  await writeFile(join(directory, "disk"), "");
  await writeFile(join(directory, "state", "devices"), "devices");
  const description = {
    name,
    goldenImage: GOLDEN.name,
    diskFormat: "raw",
    memoryMiB: MEMORY_MIB,
    memoryModifiedAt: (await stat(join(directory, "memory"))).mtimeMs,
    state: { devices: createHash("sha256").update("devices").digest("hex") },
    createdAt: new Date().toISOString(),
  };
  await writeFile(join(directory, "snapshot.json"), JSON.stringify(description));
  return name;
}

function snapshotsOf(
  options: { platform?: string; mode?: CloneMode; bootProfile?: "fast" | "compatible" } = {},
) {
  const { platform = PLATFORM, mode = "auto", bootProfile = "fast" } = options;
  const refuse = (): never => assert.fail("nothing is started");
  const hypervisor: HypervisorDriver = {
    name: "qemu",
    startsAsUser: false,
    description: "a stand-in",
    snapshots: { platform, mapsKernel: false, restore: refuse },
    start: refuse,
    adopt: refuse,
    list: refuse,
  };
  const admission = new Admission({
    memoryOvercommitPercent: 100,
    // More than any host has.
    memoryReserveMiB: 2 ** 40,
    vcpusPerCore: 1,
    diskReserveGiB: 0,
    memoryPressureLimitPercent: 0,
  });
  const host = {
    stateDirectory: diskDirectory,
    hypervisor,
    emulated: true,
    leasesOf: () => createLeases(SUBNET),
    admission,
    users: { acquire: refuse, reserve: refuse, release: refuse },
  };
  return new Snapshots({
    host: {
      ...host,
      get fabric() {
        return refuse();
      },
    },
    ...{ diskDirectory, mode, bootProfile, machine: MACHINE, logger: silentLogger },
  });
}

describe("a pool's snapshot", () => {
  test("is found by the next daemon, and used", async () => {
    const name = await leaveSnapshot();
    const snapshots = snapshotsOf();
    await snapshots.recall(GOLDEN);
    assert.equal((await snapshots.current(GOLDEN, SIGNAL))?.name, name);
    assert.deepEqual([snapshots.status.current?.name, snapshots.trouble], [name, undefined]);
  });

  test("is none where there is none that fits: VMs boot, and it is said why", async () => {
    await leaveSnapshot();
    for (const other of [
      { platform: "qemu 8.2.0 pc-q35-7.2 tcg EPYC-v1" },
      { platform: "qemu 7.2.22 pc-q35-8.0 tcg EPYC-v1" },
      { platform: "qemu 7.2.22 pc-q35-7.2 kvm host 0123456789abcdef" },
      { platform: "cloud-hypervisor 54.0.0 kvm 0123456789abcdef" },
    ]) {
      const snapshots = snapshotsOf(other);
      assert.equal(await snapshots.current(GOLDEN, SIGNAL), undefined);
      assert.match(snapshots.trouble ?? "", /none was made yet/);
      assert.equal(snapshots.status.problem, snapshots.trouble);
    }
  });

  test("is none of images that give a clone no identity, and none is missed where VMs are to boot", async () => {
    await leaveSnapshot();
    const compatible = snapshotsOf({ bootProfile: "compatible" });
    assert.equal(await compatible.current(GOLDEN, SIGNAL), undefined);
    assert.match(compatible.status.problem ?? "", /boot_profile = "compatible"/);
    assert.equal(compatible.trouble, undefined);
    const boot = snapshotsOf({ mode: "boot" });
    assert.equal(await boot.current(GOLDEN, SIGNAL), undefined);
    assert.deepEqual([boot.status.problem, boot.trouble], [undefined, undefined]);
  });

  test("is left alone after three VMs in a row that did not come up from it", async () => {
    await leaveSnapshot();
    const snapshots = snapshotsOf();
    const take = async () => (await snapshots.current(GOLDEN, SIGNAL)) ?? assert.fail("VMs boot");
    for (let round = 0; round < 3; round++) {
      for (let time = 0; time < 2; time++) snapshots.failed(await take(), "on purpose");
      // It was not the snapshot's fault.
      snapshots.succeeded();
    }
    for (let time = 0; time < 3; time++) snapshots.failed(await take(), "on purpose");
    assert.equal(await snapshots.current(GOLDEN, SIGNAL), undefined);
    assert.match(snapshots.trouble ?? "", /3 VMs in a row did not come up from it: on purpose/);
    snapshots.begin(GOLDEN);
    assert.equal(snapshots.status.isBeingMade, false);
  });

  test("is not made where the host has no room for a template, and VMs boot", async () => {
    const snapshots = snapshotsOf();
    await snapshots.make(GOLDEN, () => undefined);
    assert.match(snapshots.trouble ?? "", /no room for a template: .*memory/);
    assert.equal(await snapshots.current(GOLDEN, SIGNAL), undefined);
    const strict = snapshotsOf({ mode: "snapshot" });
    await assert.rejects(
      strict.make(GOLDEN, () => undefined),
      /no room for a template/,
    );
    await assert.rejects(strict.current(GOLDEN, SIGNAL), { code: "UNAVAILABLE" });
  });
});
